/**
 * What a group keeps aside of one partition: messages whose retry is due later
 * than a lease should wait, and the later ones of their keys behind them
 * (invariant 11). The store has it all; this is what the holder knows of it.
 */
import { Signal } from "../../Backend.ts"
import type { ParkedRecord } from "../../Transport.ts"

interface Entry extends ParkedRecord {
  dueAt: number | undefined
  /** In the store: what is not cannot be read back. */
  stored: boolean
  /** Waiting for its handler, or in it. */
  queued: boolean
  /** Found in the store while it was: it may have been settled there, and redriven, before anybody here was told. */
  again: ParkedRecord | undefined
}

const laneOf = ({ key, offset }: ParkedRecord): string | number => key ?? offset

export class Parking {
  readonly #lanes = new Map<string | number, Array<Entry>>()
  readonly #entries = new Map<number, Entry>()
  readonly signal = new Signal()
  #position: number

  /** `position` is the last offset that was claimed. */
  constructor(position: number) {
    this.#position = position
  }

  /** How many records the cursor has passed that are kept aside. Those beyond it come only as it moves on. */
  get passedSize(): number {
    let size = 0
    for (const offset of this.#entries.keys()) if (offset <= this.#position) size++
    return size
  }

  has(offset: number): boolean {
    return this.#entries.has(offset)
  }

  /** Whether messages of the key have to wait behind one that is kept aside. */
  blocks(key: string | undefined): boolean {
    return key !== undefined && this.#lanes.has(key)
  }

  /** Keeps records aside, or changes when they are due. */
  add(records: ReadonlyArray<ParkedRecord>, stored: boolean): void {
    for (const record of records) {
      const known = this.#entries.get(record.offset)
      if (known !== undefined) {
        known.dueAt = record.dueAt
        known.stored = stored
        known.queued = false
        continue
      }
      const entry: Entry = { ...record, stored, queued: false, again: undefined }
      this.#entries.set(record.offset, entry)
      const lane = this.#lanes.get(laneOf(record))
      if (lane === undefined) {
        this.#lanes.set(laneOf(record), [entry])
      } else {
        lane.push(entry)
        lane.sort((a, b) => a.offset - b.offset)
      }
    }
    this.signal.notify()
  }

  /** What others have added, apart from what is known. */
  discover(records: ReadonlyArray<ParkedRecord>): void {
    for (const record of records) {
      const known = this.#entries.get(record.offset)
      if (known?.queued === true) known.again = record
    }
    this.add(
      records.filter(({ offset }) => !this.has(offset)),
      true
    )
  }

  stored(records: ReadonlyArray<ParkedRecord>): void {
    for (const { offset } of records) {
      const entry = this.#entries.get(offset)
      if (entry !== undefined) entry.stored = true
    }
    this.signal.notify()
  }

  /** They were taken, and are to be taken again: together, or one would go before an earlier one of its key. */
  unqueue(offsets: ReadonlyArray<number>): void {
    for (const offset of offsets) {
      const entry = this.#entries.get(offset)
      if (entry !== undefined) entry.queued = false
    }
    this.signal.notify()
  }

  /** Whether a record that was taken still has its turn, now that it was read; it is taken again where it has not. */
  confirm(offset: number): boolean {
    const entry = this.#entries.get(offset)
    if (entry === undefined || !entry.queued) return false
    for (const earlier of this.#lanes.get(laneOf(entry))!) {
      if (earlier === entry) return true
      if (!earlier.queued) break
    }
    this.unqueue([offset])
    return false
  }

  /** It is settled: the next one of its key has its turn, or the key is free. */
  settle(offset: number): void {
    const entry = this.#entries.get(offset)
    if (entry === undefined) return
    this.#entries.delete(offset)
    const lane = this.#lanes.get(laneOf(entry))!
    lane.splice(lane.indexOf(entry), 1)
    if (lane.length === 0) this.#lanes.delete(laneOf(entry))
    // Where it is not in the store any more, whoever reads it finds that out.
    if (entry.again === undefined) this.signal.notify()
    else this.add([entry.again], true)
  }

  /** What has been claimed so far: a record beyond it may have earlier ones of its key that no one has seen yet. */
  passed(offset: number): void {
    this.#position = offset
    if (this.#entries.size > 0) this.signal.notify()
  }

  /** What the lanes wait for that has not been taken, and how many records wait for it. */
  get firsts(): ReadonlyArray<{ readonly record: ParkedRecord; readonly waiting: number }> {
    return Array.from(this.#lanes.values(), (lane) => ({ record: lane[0]!, waiting: lane.length - 1 })).filter(
      ({ record: { offset } }) => this.#entries.get(offset)?.queued === false
    )
  }

  /** Up to `max` records whose turn it is, and when the next one is due. */
  take(max: number, now: number): { readonly offsets: ReadonlyArray<number>; readonly nextAt: number } {
    const offsets: Array<number> = []
    let nextAt = Infinity
    for (const lane of this.#lanes.values()) {
      for (const entry of lane) {
        if (entry.queued) continue
        if (!entry.stored || entry.offset > this.#position) break
        if (entry.dueAt !== undefined && entry.dueAt > now) {
          nextAt = Math.min(nextAt, entry.dueAt)
          break
        }
        if (offsets.length >= max) return { offsets, nextAt: now }
        entry.queued = true
        offsets.push(entry.offset)
      }
    }
    return { offsets, nextAt }
  }
}
