/**
 * Dead letters as records of a compacted topic beside their own: the key is
 * their place, the headers say why, and a tombstone ends them.
 */
import type { DeadLetter, Place } from "@surety/core/DeadLetters"
import type { EncodedRecord, Headers } from "@surety/core/Envelope"
import type { Client } from "./librdkafka.ts"
import type { Outgoing } from "./producer.ts"
import { decode } from "./records.ts"

const suffix = ".dead-letters"

export const letterTopic = (topic: string): string => `${topic}${suffix}`

/** The topic whose dead letters a topic holds. */
export const sourceOf = (name: string): string | undefined =>
  name.endsWith(suffix) ? name.slice(0, -suffix.length) : undefined

/** All of a topic's letters are in one partition: there are few, and they are read as a whole. */
export const declarationOf = (topic: string) => ({ name: letterTopic(topic), partitions: 1 })

export const compacted = { "cleanup.policy": "compact", "retention.ms": "-1" } as const

const names = {
  group: "surety-group",
  partition: "surety-partition",
  offset: "surety-offset",
  key: "surety-key",
  tag: "surety-failure-tag",
  message: "surety-failure-message",
  cause: "surety-failure-cause",
  attempts: "surety-attempts",
  time: "surety-dead-at"
} as const

const own = new Set<string>(Object.values(names))

const keyOf = ({ group, offset, partition }: Omit<Place, "topic">) => JSON.stringify([group, partition, offset])

const maxText = 16_000
const short = (text: string) => (text.length > maxText ? `${text.slice(0, maxText)}…`.toWellFormed() : text)

export const encode = ({ attempts, failure, group, record, time }: DeadLetter): Outgoing => {
  const headers: Headers = {
    [names.group]: group,
    [names.partition]: `${record.partition}`,
    [names.offset]: `${record.offset}`,
    ...(record.key === undefined ? {} : { [names.key]: record.key }),
    [names.tag]: short(failure.tag),
    [names.message]: short(failure.message),
    [names.cause]: short(failure.cause),
    [names.attempts]: `${attempts}`,
    [names.time]: `${time}`
  }
  return { record: { ...record, key: keyOf({ group, ...record }) }, headers, limited: false }
}

export const tombstone = ({ group, record }: DeadLetter): Outgoing => ({
  record: { id: "", key: keyOf({ group, ...record }), headers: {}, time: Date.now(), payload: new Uint8Array(0) },
  tombstone: true
})

/** The letters that are left when all records of the topic were read. */
export class Letters {
  readonly #topic: string
  readonly #letters = new Map<string, DeadLetter>()

  constructor(topic: string) {
    this.#topic = topic
  }

  add(message: Client.Message): void {
    const record = decode(message)
    const key = record.key ?? ""
    if (message.value === null || message.value === undefined) this.#letters.delete(key)
    else this.#letters.set(key, toLetter(this.#topic, record))
  }

  /** By group, partition and offset. */
  get all(): ReadonlyArray<DeadLetter> {
    return Array.from(this.#letters.values()).sort(
      (a, b) =>
        (a.group < b.group ? -1 : a.group > b.group ? 1 : 0) ||
        a.record.partition - b.record.partition ||
        a.record.offset - b.record.offset
    )
  }
}

const toLetter = (topic: string, record: EncodedRecord): DeadLetter => {
  const text = (name: string) => record.headers[name] ?? ""
  return {
    topic,
    group: text(names.group),
    record: {
      id: record.id,
      key: record.headers[names.key],
      headers: Object.fromEntries(Object.entries(record.headers).filter(([name]) => !own.has(name))),
      time: record.time,
      payload: record.payload,
      partition: Number(text(names.partition)),
      offset: Number(text(names.offset))
    },
    failure: { tag: text(names.tag), message: text(names.message), cause: text(names.cause) },
    attempts: Number(text(names.attempts)),
    time: Number(text(names.time))
  }
}
