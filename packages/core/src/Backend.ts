/**
 * What implementations of a transport share. Programs do not need it.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { EncodedRecord } from "./Envelope.ts"
import { CurrentCollector } from "./internal/explain/collector.ts"
import type { Transport } from "./Transport.ts"
import { RecordTooLarge } from "./TransportError.ts"

const encoder = new TextEncoder()

/** Most ids, keys and headers are: then their characters are their bytes, and nothing is encoded to look at them. */
const isAscii = (text: string): boolean => {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 0x7f) return false
  return true
}

const utf8Length = (text: string): number => (isAscii(text) ? text.length : encoder.encode(text).length)

/**
 * The partition of a record: FNV-1a over the UTF-8 of its key, or of its id
 * when it has none, modulo the number of partitions. Part of the stored format:
 * it never changes.
 *
 * @category records
 * @since 0.1.0
 */
export const partitionOf = (record: Pick<EncodedRecord, "id" | "key">, partitions: number): number => {
  const text = record.key ?? record.id
  let hash = 0x811c9dc5
  const add = (byte: number) => {
    hash = Math.imul(hash ^ byte, 0x01000193)
  }
  if (isAscii(text)) for (let i = 0; i < text.length; i++) add(text.charCodeAt(i))
  else for (const byte of encoder.encode(text)) add(byte)
  return (hash >>> 0) % partitions
}

/**
 * The size of a record as transports limit it: UTF-8 bytes of id, key and
 * headers, and the bytes of the payload.
 *
 * @category records
 * @since 0.1.0
 */
export const recordBytes = (record: EncodedRecord): number => {
  let bytes = record.payload.length + utf8Length(record.id)
  if (record.key !== undefined) bytes += utf8Length(record.key)
  for (const [name, value] of Object.entries(record.headers)) bytes += utf8Length(name) + utf8Length(value)
  return bytes
}

/**
 * The bytes of records that are published together, or why one of them is
 * refused: what every way to publish checks first.
 *
 * @category records
 * @since 0.1.0
 */
export const totalBytes = (records: ReadonlyArray<EncodedRecord>, limit: number): number | RecordTooLarge => {
  let total = 0
  for (const record of records) {
    const bytes = recordBytes(record)
    if (bytes > limit) return new RecordTooLarge({ id: record.id, bytes, limit })
    total += bytes
  }
  return total
}

/**
 * The store in whose transactions a transport publishes: that of an outbox, or
 * its own.
 *
 * @category stores
 * @since 0.1.0
 */
export const publishStoreOf = ({ publishStore, store }: Transport["Service"]): object => publishStore ?? store

/**
 * How many of a group's partitions the member of this rank serves: all are
 * served, and no two members differ by more than one.
 *
 * @category groups
 * @since 0.1.0
 */
export const allowance = (partitions: number, members: number, rank: number): number =>
  Math.floor(partitions / members) + (rank < partitions % members ? 1 : 0)

/**
 * Something changed: a version that waiters compare, so that no change between
 * looking and waiting is missed.
 *
 * @category signals
 * @since 0.1.0
 */
export class Signal {
  #version = 0
  readonly #waiters = new Set<() => void>()

  get version(): number {
    return this.#version
  }

  notify(): void {
    this.#version++
    if (this.#waiters.size === 0) return
    const waiters = Array.from(this.#waiters)
    this.#waiters.clear()
    for (const resume of waiters) resume()
  }

  /** Completes once the version is no longer the one that was seen. */
  changed(seen: number): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      const wake = () => resume(Effect.void)
      if (this.#version !== seen) return wake()
      this.#waiters.add(wake)
      return Effect.sync(() => {
        this.#waiters.delete(wake)
      })
    })
  }
}

/**
 * Whether the layer that is being built is to be explained, and not to run:
 * then it connects to nothing, starts nothing, and says what it knows without.
 *
 * @category explaining
 * @since 0.1.0
 */
export const explaining: Effect.Effect<boolean> = Effect.map(CurrentCollector, (collector) => collector !== undefined)
