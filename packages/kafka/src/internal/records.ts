/** Records on the wire: a message's id is a header beside the user's own, its time the record's timestamp. */
import type { EncodedRecord, Headers } from "@surety/core/Envelope"
import type { Client } from "./librdkafka.ts"

/** The id of a message. */
export const idHeader = "surety-id"

/** The group to which a message was redriven: the others pass it over. */
export const redriveHeader = "surety-redriven-to"

/** The time of a message that brokers do not take as a timestamp. */
const timeHeader = "surety-time"

const own = new Set([idHeader, redriveHeader, timeHeader])

/** Before a name that the client would not hand back as it is. */
const escaped = "surety-name:"

const wireName = (name: string): string =>
  name === "__proto__" || name.includes("\0") ? `${escaped}${encodeURIComponent(name)}` : name

const nameOf = (wire: string): string => {
  if (!wire.startsWith(escaped)) return wire
  try {
    return decodeURIComponent(wire.slice(escaped.length))
  } catch {
    return wire
  }
}

/** Brokers refuse times that are further ahead than an hour, by default (`message.timestamp.after.max.ms`). */
const maxAhead = 50 * 60_000

const isTimestamp = (time: number): boolean => time > 0 && time < Date.now() + maxAhead

export const timestampOf = ({ time }: EncodedRecord): number => (isTimestamp(time) ? time : Date.now())

/** Whether a header is ours: a message's own one of such a name does not travel. */
export const isOwn = (name: string): boolean => own.has(name)

export const encodeHeaders = (record: EncodedRecord, more: Headers = {}): Array<Client.MessageHeader> => {
  const headers: Array<Client.MessageHeader> = []
  for (const [name, value] of Object.entries(record.headers)) if (!isOwn(name)) headers.push(header(name, value))
  if (record.id !== "") headers.push(header(idHeader, record.id))
  if (!isTimestamp(record.time)) headers.push(header(timeHeader, `${record.time}`))
  for (const [name, value] of Object.entries(more)) headers.push(header(name, value))
  return headers
}

const header = (name: string, value: string): Client.MessageHeader => ({ [wireName(name)]: Buffer.from(value) })

export const keyOf = ({ key }: EncodedRecord): Buffer | null => (key === undefined ? null : Buffer.from(key))

const decoder = new TextDecoder()

export interface Decoded extends EncodedRecord {
  readonly redrivenTo: string | undefined
}

export const decode = (message: Client.Message): Decoded => {
  const headers: Array<readonly [string, string]> = []
  let id = ""
  let redrivenTo: string | undefined
  let time = message.timestamp ?? 0
  for (const entry of message.headers ?? []) {
    for (const [name, bytes] of Object.entries(entry)) {
      const value = typeof bytes === "string" ? bytes : decoder.decode(bytes)
      if (name === idHeader) id = value
      else if (name === redriveHeader) redrivenTo = value
      else if (name === timeHeader) time = Number(value)
      else headers.push([nameOf(name), value])
    }
  }
  const { key, value } = message
  return {
    id,
    key: key === null || key === undefined ? undefined : typeof key === "string" ? key : decoder.decode(key),
    headers: Object.fromEntries(headers),
    time,
    payload: value ?? new Uint8Array(0),
    redrivenTo
  }
}
