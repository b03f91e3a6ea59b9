/**
 * The records of one partition. Offsets begin at 1, and the oldest ones may have been dropped. An offset is drawn when a
 * record is written, and the record can be read once its transaction has committed; one that rolled back leaves a gap.
 */
import { Signal } from "../../Backend.ts"
import type { EncodedRecord, StoredRecord } from "../../Envelope.ts"

interface Entry {
  readonly record: StoredRecord
  readonly storedAt: number
  state: "open" | "committed" | "aborted"
}

export class PartitionLog {
  readonly partition: number
  /** Told when a record can be read, or lets those behind it be read. */
  readonly changed = new Signal()
  #dropped = 0
  readonly #entries: Array<Entry> = []
  /** Those that may still commit, in the order of their offsets. */
  readonly #open = new Set<Entry>()
  readonly #horizon: boolean

  /** Without the `horizon`, what commits late is passed over. */
  constructor(partition: number, horizon: boolean) {
    this.partition = partition
    this.#horizon = horizon
  }

  /**
   * The last offset up to which records can be read; 0 when there was none. Invariant 9: nothing is read beyond one that
   * may still commit.
   */
  get end(): number {
    if (this.#horizon) for (const { record } of this.#open) return record.offset - 1
    return this.#dropped + this.#entries.length
  }

  /** The first offset that is held, or comes next. */
  get first(): number {
    return this.#dropped + 1
  }

  /** Whether there are some that may still commit. */
  get isOpen(): boolean {
    return this.#open.size > 0
  }

  /** How many there are to read after an offset. */
  count(offset: number): number {
    let count = 0
    const { end } = this
    for (let i = Math.max(0, offset - this.#dropped); i < end - this.#dropped; i++) {
      if (this.#entries[i]!.state === "committed") count++
    }
    return count
  }

  /** Draws an offset. What is returned makes the record readable, or takes it back. */
  write(record: EncodedRecord, storedAt: number): (state: "committed" | "aborted") => void {
    const offset = this.#dropped + this.#entries.length + 1
    const entry: Entry = { record: { ...record, partition: this.partition, offset }, storedAt, state: "open" }
    this.#entries.push(entry)
    this.#open.add(entry)
    return (state) => {
      entry.state = state
      this.#open.delete(entry)
    }
  }

  /** Up to `max` of those after an offset. */
  after(offset: number, max: number): ReadonlyArray<StoredRecord> {
    const records: Array<StoredRecord> = []
    const { end } = this
    for (let i = Math.max(0, offset - this.#dropped); i < end - this.#dropped && records.length < max; i++) {
      const { record, state } = this.#entries[i]!
      if (state === "committed") records.push(record)
    }
    return records
  }

  /** When the first one after an offset was stored. */
  storedAfter(offset: number): number {
    return this.#entries[Math.max(0, offset - this.#dropped)]?.storedAt ?? Infinity
  }

  storedAt(offset: number): number {
    return this.storedAfter(offset - 1)
  }

  /** Drops what was stored before a time, up to an offset. */
  trim(before: number, reached: () => number): void {
    if (this.storedAfter(0) >= before) return
    const end = reached() - this.#dropped
    let count = 0
    while (count < this.#entries.length && count < end) {
      const { state, storedAt } = this.#entries[count]!
      if (storedAt >= before || state === "open") break
      count++
    }
    this.#entries.splice(0, count)
    this.#dropped += count
  }
}
