/** The records of one partition. Offsets begin at 1, and the oldest ones may have been dropped. */
import type { EncodedRecord, StoredRecord } from "../../Envelope.ts"

export class PartitionLog {
  readonly partition: number
  #dropped = 0
  readonly #records: Array<{ readonly record: StoredRecord; readonly storedAt: number }> = []

  constructor(partition: number) {
    this.partition = partition
  }

  /** The last offset; 0 when there was none. */
  get end(): number {
    return this.#dropped + this.#records.length
  }

  /** How many there are after an offset. */
  count(offset: number): number {
    return this.end - Math.max(offset, this.#dropped)
  }

  append(record: EncodedRecord, storedAt: number): void {
    this.#records.push({ record: { ...record, partition: this.partition, offset: this.end + 1 }, storedAt })
  }

  /** Up to `max` of those after an offset. */
  after(offset: number, max: number): ReadonlyArray<StoredRecord> {
    const from = Math.max(0, offset - this.#dropped)
    return this.#records.slice(from, from + max).map(({ record }) => record)
  }

  at(offset: number): StoredRecord {
    return this.#records[offset - this.#dropped - 1]!.record
  }

  /** When the first one after an offset was stored. */
  storedAfter(offset: number): number {
    return this.#records[Math.max(0, offset - this.#dropped)]?.storedAt ?? Infinity
  }

  storedAt(offset: number): number {
    return this.storedAfter(offset - 1)
  }

  /** Drops what was stored before a time, up to an offset. */
  trim(before: number, reached: () => number): void {
    if (this.storedAfter(0) >= before) return
    const end = reached() - this.#dropped
    let count = 0
    while (count < this.#records.length && count < end && this.#records[count]!.storedAt < before) count++
    this.#records.splice(0, count)
    this.#dropped += count
  }
}
