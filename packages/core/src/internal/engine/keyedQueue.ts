/**
 * The claimed records of a partition, waiting for their handlers: records of
 * one key are taken one batch at a time and in order (invariant 11); a key that
 * waits for a retry holds no other key back (invariant 20).
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import { Signal } from "../../Backend.ts"
import type { ClaimedRecord } from "../../Transport.ts"
import type { RetryState } from "./failures.ts"

/** A claimed record and what has become of it so far. */
export interface Item {
  readonly record: ClaimedRecord
  /** Kept aside, and due: the cursor has passed it. */
  readonly parked: boolean
  /** May have killed its process: handled while nothing else of the partition is. */
  readonly suspect: boolean
  /** Whether its claims are counted one by one, in the store. */
  counted: boolean
  /** The number of the current attempt, from 1. */
  attempt: number
  failures: number
  notBefore: number
  retries: RetryState | undefined
}

export const makeItem = (record: ClaimedRecord): Item => ({
  record,
  parked: false,
  suspect: false,
  counted: false,
  attempt: 1,
  failures: 0,
  notBefore: 0,
  retries: undefined
})

interface Lane {
  readonly items: Array<Item>
  /** In flight: none while the lane waits for its turn. */
  taken: ReadonlyArray<Item>
}

/** The first of the records of a lane, and how many wait for it. */
export interface First {
  readonly item: Item
  readonly inFlight: boolean
  readonly waiting: number
}

const none: ReadonlyArray<Item> = []

/** The lane in which a record waits for the ones before it. */
export type LaneOf = (item: Item) => string | number

/** Records without a key have no order among each other: each is a lane of its own. */
export const byKey: LaneOf = ({ record }) => record.key ?? record.offset

/** All records of the partition in one lane: what settles nothing but an offset may leave none behind. */
export const inSequence: LaneOf = () => 0

export class KeyedQueue {
  readonly #lanes = new Map<string | number, Lane>()
  readonly #ready = new Set<Lane>()
  readonly #gate: Latch.Latch
  readonly #laneOf: LaneOf
  readonly #fullWaiters = new Set<{ readonly size: number; readonly resume: () => void }>()
  readonly signal = new Signal()
  #size = 0
  #inFlight = 0
  #exclusive = false
  #handovers = 0
  #closed: "no" | "once empty" | "now" = "no"

  /** While the gate is closed nothing is taken. */
  constructor(gate: Latch.Latch = Latch.makeUnsafe(true), laneOf: LaneOf = byKey) {
    this.#gate = gate
    this.#laneOf = laneOf
  }

  /** Records held, in flight included. */
  get size(): number {
    return this.#size
  }

  get inFlight(): number {
    return this.#inFlight
  }

  offer(items: Iterable<Item>): void {
    for (const item of items) {
      const key = this.#laneOf(item)
      let lane = this.#lanes.get(key)
      if (lane === undefined) {
        lane = { items: [], taken: none }
        this.#lanes.set(key, lane)
      }
      lane.items.push(item)
      if (lane.taken.length === 0) this.#ready.add(lane)
      this.#size++
    }
    this.signal.notify()
  }

  /** Takes out what waits behind a record that is in flight. */
  withdraw(item: Item): ReadonlyArray<Item> {
    const lane = this.#lanes.get(this.#laneOf(item))
    if (lane === undefined) return []
    const items = lane.items.splice(0)
    this.#shrink(items.length)
    return items
  }

  #shrink(count: number): void {
    this.#size -= count
    for (const waiter of this.#fullWaiters) {
      if (this.#size > waiter.size) continue
      this.#fullWaiters.delete(waiter)
      waiter.resume()
    }
  }

  /** Waits until no more than so many records are held. */
  downTo(size: number): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      if (this.#size <= size) return resume(Effect.void)
      const waiter = { size, resume: () => resume(Effect.void) }
      this.#fullWaiters.add(waiter)
      return Effect.sync(() => this.#fullWaiters.delete(waiter))
    })
  }

  /** No more records are taken, at once or when those that are held are in flight; what is in flight goes on. */
  close(when: "now" | "once empty"): void {
    this.#closed = when
    this.signal.notify()
  }

  get closed(): boolean {
    if (this.#closed !== "once empty") return this.#closed === "now"
    return this.#handovers === 0 && this.#size === this.#inFlight
  }

  /** Settles records, and then offers them: between the two they are nowhere else. None begins once the queue is closed. */
  handOver<E, R>(settleAndOffer: Effect.Effect<void, E, R>): Effect.Effect<void, E, R> {
    return Effect.suspend(() => {
      if (this.#closed !== "no") return Effect.never
      this.#handovers++
      return Effect.ensuring(
        settleAndOffer,
        Effect.sync(() => {
          this.#handovers--
          this.signal.notify()
        })
      )
    })
  }

  /** Waits for what is being handed over. */
  get handedOver(): Effect.Effect<void> {
    return Effect.suspend(() =>
      this.#handovers === 0
        ? Effect.void
        : Effect.andThen(
            this.signal.changed(this.signal.version),
            Effect.suspend(() => this.handedOver)
          )
    )
  }

  /** At-most-once, what is held when the consumer stops is lost unless it is taken. */
  get #isOpen(): boolean {
    return !this.closed && (this.#gate.isOpen() || this.#closed !== "no")
  }

  /**
   * Waits until there are records to take: once there are some, for up to
   * `patience` milliseconds until there are `max` of them. False once closed. None
   * is taken, so that who waits for a permit then keeps nothing from others.
   */
  ready(max: number, patience = 0, since?: number): Effect.Effect<boolean> {
    return Effect.clockWith((clock) => {
      const now = clock.currentTimeMillisUnsafe()
      if (this.closed) return Effect.succeed(false)
      const again = (wait: Effect.Effect<void>, from?: number) =>
        Effect.andThen(
          wait,
          Effect.suspend(() => this.ready(max, patience, from))
        )
      const changed = this.signal.changed(this.signal.version)
      if (!this.#isOpen) return again(Effect.raceFirst(changed, this.#gate.await))
      const { available, nextAt } = this.#look(max, now)
      if (available === 0)
        return again(nextAt === Infinity ? changed : Effect.raceFirst(changed, Effect.sleep(nextAt - now)))
      const until = (since ?? now) + patience
      if (available >= max || now >= until) return Effect.succeed(true)
      return again(Effect.raceFirst(changed, Effect.sleep(until - now)), since ?? now)
    })
  }

  /** How many records can be taken now, of `max`; without bound, where one goes alone. And when the next one can be. */
  #look(max: number, now: number): { readonly available: number; readonly nextAt: number } {
    let available = 0
    let nextAt = Infinity
    if (this.#exclusive) return { available, nextAt }
    for (const { items } of this.#ready) {
      const first = items[0]!
      if (first.notBefore > now) {
        nextAt = Math.min(nextAt, first.notBefore)
        continue
      }
      if (first.suspect && available === 0 && this.#inFlight > 0) break
      if (first.suspect || first.counted) return { available: Infinity, nextAt }
      available += items.length
      if (available >= max) break
    }
    return { available, nextAt }
  }

  /** Up to `max` records, whose keys are then in flight until `done`; none where none can be taken now. */
  take(max: number, now: number): ReadonlyArray<Item> {
    if (!this.#isOpen || this.#exclusive) return none
    const items: Array<Item> = []
    for (const lane of this.#ready) {
      const first = lane.items[0]!
      if (first.notBefore > now) continue
      if (first.suspect) {
        if (items.length > 0 || this.#inFlight > 0) break
        this.#exclusive = true
        items.push(first)
        this.#begin(lane, 1)
        break
      }
      let count = 0
      while (count < lane.items.length && items.length < max) {
        const item = lane.items[count]!
        // What is counted is handled alone; a suspect waits until it can be.
        if (item.suspect || (item.counted && items.length > 0)) break
        items.push(item)
        count++
        if (item.counted) break
      }
      if (count > 0) this.#begin(lane, count)
      if (items.length >= max || items.some((item) => item.counted)) break
    }
    return items
  }

  #begin(lane: Lane, count: number): void {
    this.#ready.delete(lane)
    lane.taken = lane.items.splice(0, count)
    this.#inFlight += count
  }

  /** What each lane waits for. */
  get firsts(): ReadonlyArray<First> {
    return Array.from(this.#lanes.values(), ({ items, taken }) => ({
      item: (taken[0] ?? items[0])!,
      inFlight: taken.length > 0,
      waiting: taken.length + items.length - 1
    }))
  }

  /** Frees the keys of a batch; `deferred` are taken again, before later records of their keys. */
  done(batch: ReadonlyArray<Item>, deferred: ReadonlyArray<Item>): void {
    this.#exclusive = false
    this.#inFlight -= batch.length
    for (let i = deferred.length - 1; i >= 0; i--)
      this.#lanes.get(this.#laneOf(deferred[i]!))!.items.unshift(deferred[i]!)
    for (const item of batch) {
      const key = this.#laneOf(item)
      const lane = this.#lanes.get(key)
      // Freed with an earlier one of its key.
      if (lane === undefined || lane.taken.length === 0) continue
      lane.taken = none
      if (lane.items.length === 0) this.#lanes.delete(key)
      else this.#ready.add(lane)
    }
    this.#shrink(batch.length - deferred.length)
    if (this.#ready.size > 0 || this.#closed !== "no") this.signal.notify()
  }
}
