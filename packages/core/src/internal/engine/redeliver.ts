/**
 * Durable redelivery: what becomes of a message whose retry is due later than a lease should wait (rule 19), and of one
 * that was redriven.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { DeadLetter } from "../../DeadLetters.ts"
import type { ClaimedRecord, RecordToPark, Redelivery } from "../../Transport.ts"
import type { TransportError } from "../../TransportError.ts"
import { identify } from "../foreign.ts"
import { persist } from "./context.ts"
import { type Item, type KeyedQueue, makeItem } from "./keyedQueue.ts"
import { Parking } from "./parking.ts"
import type { Progress } from "./progress.ts"

/** How many records are listed at once, and read at once. */
const pageSize = 1000
const readSize = 16

/** How many records of a partition are kept aside before no more are claimed. */
export const maxParked = 10_000

export class Redeliver {
  readonly #topic: string
  readonly #redelivery: Redelivery
  readonly #queue: KeyedQueue
  readonly #progress: Progress
  /** At-most-once: only what was redriven is kept aside. */
  readonly #once: boolean
  readonly #prefetch: number
  readonly parking: Parking

  constructor(
    topic: string,
    redelivery: Redelivery,
    queue: KeyedQueue,
    progress: Progress,
    once: boolean,
    prefetch: number
  ) {
    this.#topic = topic
    this.#redelivery = redelivery
    this.#queue = queue
    this.#progress = progress
    this.#once = once
    this.#prefetch = prefetch
    this.parking = new Parking(progress.stored)
  }

  /** What is kept aside, by earlier holders and by redrives. */
  readonly load: Effect.Effect<void, TransportError> = Effect.gen({ self: this }, function* () {
    // The first offset of a log may be 0.
    let after = -1
    while (true) {
      const page = yield* persist(this.#redelivery.list(after, pageSize))
      this.parking.discover(page)
      if (page.length < pageSize) return
      after = page[page.length - 1]!.offset
    }
  })

  readonly watch: Effect.Effect<never, TransportError> = Effect.forever(
    Effect.suspend(() => Effect.andThen(this.#redelivery.added, this.load)),
    { disableYield: true }
  )

  /** Hands what is due to the handlers. */
  readonly run: Effect.Effect<never, TransportError> = Effect.gen({ self: this }, function* () {
    const { parking } = this
    while (true) {
      // Backpressure: what is due waits in the store.
      yield* this.#queue.downTo(this.#prefetch - 1)
      const room = this.#prefetch - this.#queue.size
      const seen = parking.signal.version
      const now = yield* Clock.currentTimeMillis
      const { nextAt, offsets } = parking.take(Math.min(readSize, room), now)
      if (offsets.length > 0) {
        const read = yield* persist(this.#redelivery.read(offsets))
        const records = read.map((record) => identify(this.#topic, record))
        const found = new Set(records.map(({ offset }) => offset))
        for (const offset of offsets) if (!found.has(offset)) parking.settle(offset)
        // One of its key may have failed again meanwhile: then its turn is over.
        const confirmed = records.filter(({ offset }) => parking.confirm(offset))
        if (!this.#once) {
          this.#queue.offer(confirmed.map(makeParkedItem))
          continue
        }
        const offered = confirmed.map(({ offset }) => offset)
        // Invariant 3: settled before any of the handlers starts.
        yield* Effect.map(persist(this.#redelivery.settle(offered, [])), () => {
          for (const offset of offered) parking.settle(offset)
          this.#queue.offer(confirmed.map((record) => ({ ...makeItem(record), parked: true })))
        }).pipe((settleAndOffer) => this.#queue.handOver(settleAndOffer))
        continue
      }
      const changed = parking.signal.changed(seen)
      yield* nextAt === Infinity ? changed : Effect.raceFirst(changed, Effect.sleep(nextAt - now))
    }
  })

  /** Hands claimed records to the handlers, but for those that are, or are now, kept aside. */
  divert(
    records: ReadonlyArray<ClaimedRecord>,
    toItem: (record: ClaimedRecord) => Item
  ): Effect.Effect<void, TransportError> {
    return Effect.suspend(() => {
      const fresh: Array<ClaimedRecord> = []
      const behind: Array<ClaimedRecord> = []
      for (const record of records) {
        // Kept aside by a holder that ended before its cursor passed the record.
        if (this.parking.has(record.offset)) this.#progress.settle(record.offset)
        else if (this.parking.blocks(record.key)) behind.push(record)
        else fresh.push(record)
      }
      if (behind.length > 0) return Effect.andThen(this.#park(behind), this.divert(fresh, toItem))
      // In one step with the look at what blocks: a key that is kept aside in between would be overtaken.
      this.#queue.offer(fresh.map(toItem))
      return Effect.void
    })
  }

  /** Of messages that are to be tried again those that stay; the others follow one of their key that is kept aside. */
  divertItems(items: ReadonlyArray<Item>): Effect.Effect<ReadonlyArray<Item>, TransportError> {
    return Effect.suspend(() => {
      const follows = ({ parked, record }: Item) => !parked && this.parking.blocks(record.key)
      const behind = items.filter(follows)
      // What of their keys was due meanwhile, and queued behind their batch, may be later than they are.
      const overtaking = behind.flatMap((item) => this.#queue.withdraw(item))
      return Effect.as(
        this.#park(
          behind.map(({ record }) => record),
          overtaking
        ),
        behind.length === 0 ? items : items.filter((item) => !follows(item))
      )
    })
  }

  /** Keeps records aside behind others of their keys. `withdrawn` are kept aside already, and have their turn after them. */
  #park(
    records: ReadonlyArray<ClaimedRecord>,
    withdrawn: ReadonlyArray<Item> = []
  ): Effect.Effect<void, TransportError> {
    const behind = records.map((record): RecordToPark => ({ ...placeOf(record), dueAt: undefined, record }))
    // First: whoever waits for a turn is told of it at once.
    if (behind.length > 0) this.parking.add(behind, false)
    if (withdrawn.length > 0) this.parking.unqueue(withdrawn.map(({ record }) => record.offset))
    if (behind.length === 0) return Effect.void
    return Effect.map(persist(this.#redelivery.park(behind)), () => {
      this.parking.stored(behind)
      for (const { offset } of records) this.#progress.settle(offset)
    })
  }

  /** A message was stored as kept aside: later ones of its key that wait for their handlers follow it. */
  follow(item: Item, dueAt: number): Effect.Effect<void, TransportError> {
    return Effect.suspend(() => {
      const { key, offset } = item.record
      this.parking.add([{ offset, key, dueAt }], true)
      if (!item.parked) this.#progress.settle(offset)
      const later = this.#queue.withdraw(item)
      return this.#park(
        later.flatMap(({ parked, record }) => (parked ? [] : [record])),
        later.filter(({ parked }) => parked)
      )
    })
  }

  /** A statement that keeps the message aside. */
  park({ record }: Item, dueAt: number): Effect.Effect<void, TransportError> {
    return this.#redelivery.park([{ ...placeOf(record), dueAt, record }])
  }

  /** A statement that settles messages that were kept aside, with the dead letters that they end in. */
  settle(items: ReadonlyArray<Item>, letters: ReadonlyArray<DeadLetter> = []): Effect.Effect<void, TransportError> {
    return this.#redelivery.settle(
      items.map(({ record }) => record.offset),
      letters
    )
  }
}

const placeOf = ({ key, offset }: ClaimedRecord) => ({ key, offset })

const makeParkedItem = (record: ClaimedRecord): Item => {
  const { claims, failures } = record.attempts ?? { claims: 0, failures: 0 }
  return { ...makeItem(record), parked: true, suspect: claims > failures, counted: true, attempt: claims + 1, failures }
}
