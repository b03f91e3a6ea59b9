/** The messages: 200 bytes of JSON each, spread over 1,000 accounts. */
import { Schema } from "effect"

export const Message = Schema.Struct({ seq: Schema.Int, account: Schema.Int, pad: Schema.String })
export type Message = typeof Message.Type

export const accounts = 1000
const bytes = 200

/** Shared by the messages, of which there may be a million. */
const padding = Array.from({ length: bytes }, (_, length) => "x".repeat(length))

/** `count` messages; their `seq` counts from 0. */
export const make = (count: number): ReadonlyArray<Message> =>
  Array.from({ length: count }, (_, seq) => {
    const message = { seq, account: seq % accounts, pad: "" }
    return { ...message, pad: padding[bytes - JSON.stringify(message).length]! }
  })

/** The deduplication id. */
export const idOf = (message: Message): string => `m${message.seq}`

export const chunksOf = (messages: ReadonlyArray<Message>, size: number): ReadonlyArray<ReadonlyArray<Message>> =>
  Array.from({ length: Math.ceil(messages.length / size) }, (_, index) =>
    messages.slice(index * size, (index + 1) * size)
  )
