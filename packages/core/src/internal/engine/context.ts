/** What the fibers of one running consumer share. */
import type { Clock } from "effect/Clock"
import type * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Semaphore from "effect/Semaphore"
import type { Codec } from "../../Codec.ts"
import type { Consumer, Obstacle } from "../../Consumer.ts"
import type { Delivery, Name } from "../../Guarantee.ts"
import type { Around } from "../../Interference.ts"
import type { TransportError } from "../../TransportError.ts"
import { retryTransport } from "../retry.ts"
import type { Lifecycle } from "./lifecycle.ts"
import type { Observer } from "./observer.ts"

export interface Context {
  readonly consumer: Consumer<any, never, any>
  readonly delivery: Delivery<Name>
  readonly codec: Codec
  readonly clock: Clock
  /** One permit for each handler that may run. */
  readonly permits: Semaphore.Semaphore
  readonly batch: BatchSize
  readonly observer: Observer
  readonly lifecycle: Lifecycle
  /** What the partitions that are served wait for, at a time. */
  readonly obstacles: Set<(now: number) => ReadonlyArray<Obstacle>>
  readonly around: Around | undefined
  /** Retries that wait for more milliseconds than this are kept aside in the store. */
  readonly redeliverAfter: number
}

/** A handler failed with an error for which the consumer is to stop. */
export class StopSignal {
  readonly _tag = "StopSignal"
  readonly id: string
  readonly cause: unknown
  constructor(id: string, cause: unknown) {
    this.id = id
    this.cause = cause
  }
}

/** Why a partition is no longer served. */
export type End = TransportError | StopSignal

/** How failures of the store, which are nobody's attempts, are repeated: for ever, from 50 milliseconds to 5 seconds. */
export const infrastructureRetry: Schedule.Schedule<unknown> = Schedule.min([
  Schedule.exponential("50 millis"),
  Schedule.spaced("5 seconds")
]).pipe(Schedule.jittered)

/** Repeats a store operation until it succeeds, or fails in a way that repeating cannot mend. */
export const persist = <A, R>(effect: Effect.Effect<A, TransportError, R>): Effect.Effect<A, TransportError, R> =>
  retryTransport(effect, infrastructureRetry)

/** A hundred years: a retry that is due later, by an endless delay say, has no date that a store can hold. */
export const maxDelay = 100 * 365 * 24 * 3_600_000

/**
 * How many messages share a transaction: more while transactions are short,
 * fewer while they are long, so that slow handlers neither hold a transaction
 * open for long nor lose much work to a rollback.
 */
export class BatchSize {
  #size: number
  readonly #max: number

  constructor(max: number) {
    this.#max = max
    this.#size = Math.min(16, max)
  }

  get current(): number {
    return this.#size
  }

  took(millis: number): void {
    if (millis < 100) this.#size = Math.min(this.#size * 2, this.#max)
    else if (millis > 400) this.#size = Math.max(1, Math.floor(this.#size / 2))
  }
}
