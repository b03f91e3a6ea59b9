/**
 * Records that are kept for a group in a compacted topic beside their own: the
 * key is their place, the headers say more, and a tombstone ends them.
 */
import type { EncodedRecord, Headers, StoredRecord } from "@surety/core/Envelope"
import type { Client } from "./librdkafka.ts"
import type { Outgoing } from "./producer.ts"
import { decode as decodeRecord } from "./records.ts"

export const compacted = { "cleanup.policy": "compact", "retention.ms": "-1" } as const

/** Headers beside those of the message itself. */
export const names = {
  group: "surety-group",
  partition: "surety-partition",
  offset: "surety-offset",
  key: "surety-key",
  tag: "surety-failure-tag",
  message: "surety-failure-message",
  cause: "surety-failure-cause",
  attempts: "surety-attempts",
  time: "surety-dead-at",
  dueAt: "surety-due-at"
} as const

const own = new Set<string>(Object.values(names))

type Place = Pick<StoredRecord, "partition" | "offset">

const keyOf = (group: string, { offset, partition }: Place) => JSON.stringify([group, partition, offset])

export const encode = (group: string, record: StoredRecord, more: Headers): Outgoing => ({
  record: { ...record, key: keyOf(group, record) },
  headers: {
    [names.group]: group,
    [names.partition]: `${record.partition}`,
    [names.offset]: `${record.offset}`,
    ...(record.key === undefined ? {} : { [names.key]: record.key }),
    ...more
  },
  limited: false
})

export const tombstone = (group: string, place: Place): Outgoing => ({
  record: { id: "", key: keyOf(group, place), headers: {}, time: Date.now(), payload: new Uint8Array(0) },
  tombstone: true
})

export interface Placed {
  readonly group: string
  readonly record: StoredRecord
  /** What a header of ours says. */
  readonly header: (name: string) => string | undefined
}

/** Those that are left when all records of a topic were read. */
export class Kept<A> {
  readonly #toKept: (placed: Placed) => A
  readonly #kept = new Map<string, A>()

  constructor(toKept: (placed: Placed) => A) {
    this.#toKept = toKept
  }

  add(message: Client.Message): void {
    const record = decodeRecord(message)
    const key = record.key ?? ""
    if (message.value === null || message.value === undefined) this.#kept.delete(key)
    else this.#kept.set(key, this.#toKept(placed(record)))
  }

  get all(): ReadonlyArray<A> {
    return Array.from(this.#kept.values())
  }
}

const placed = ({ headers, id, payload, time }: EncodedRecord): Placed => ({
  group: headers[names.group] ?? "",
  record: {
    id,
    key: headers[names.key],
    headers: Object.fromEntries(Object.entries(headers).filter(([name]) => !own.has(name))),
    time,
    payload,
    partition: Number(headers[names.partition]),
    offset: Number(headers[names.offset])
  },
  header: (name) => headers[name]
})
