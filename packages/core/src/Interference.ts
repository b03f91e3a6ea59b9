/**
 * What a simulation puts around the steps of a program: it sees them, and may
 * delay them, fail them, lose their replies, or end the process there.
 *
 * Programs do not need it. It is the seam of `Simulation` in
 * `@surety/testing`, by which a whole app is observed and disturbed as it
 * stands.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { Consumer } from "./Consumer.ts"
import type { DeadLetter } from "./DeadLetters.ts"
import type { EncodedRecord, Envelope, StoredRecord } from "./Envelope.ts"
import type { Transaction } from "./MemoryStore.ts"
import type { PublishError } from "./PublishError.ts"
import type { TransportError } from "./TransportError.ts"

/**
 * One step at the in-memory store, whose name is that of the method that asks
 * for it; `begin` and `commit` are those of a message's transaction, `heartbeat`
 * a member's. A publish outside of any transaction is two: `draw`, after which
 * its records have their offsets, and `publish`, which makes them readable.
 *
 * @category models
 * @since 0.1.0
 */
export interface Operation {
  readonly name: string
  readonly topic: string
  /** The lease on whose behalf it is done. `offset` is that which it settles. */
  readonly holder:
    | {
        readonly group: string
        readonly partition: number
        readonly epoch: number
        readonly offset?: number | undefined
      }
    | undefined
  /** Of a redrive or a purge: the dead letters that it would find now. */
  readonly letters: (() => ReadonlyArray<DeadLetter>) | undefined
  /** That of a publish outside of any other ends with it. */
  readonly transaction: Transaction | undefined
}

/**
 * The messages that a handler was given: one, or those of a batch.
 *
 * @category models
 * @since 0.1.0
 */
export interface Given {
  readonly consumer: Consumer<any, any, any>
  readonly envelopes: ReadonlyArray<Envelope<unknown>>
  readonly records: ReadonlyArray<StoredRecord>
}

/**
 * Each function is given the effect of a step, and returns what is done instead.
 *
 * @category models
 * @since 0.1.0
 */
export interface Around {
  /** Of one process, at the in-memory store. */
  readonly operation: <A>(
    operation: Operation,
    effect: Effect.Effect<A, TransportError>
  ) => Effect.Effect<A, TransportError>
  /** A consumer, from before it joins its group to after it has left it. */
  readonly consumer: <A, E, R>(
    consumer: Consumer<any, any, any>,
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E, R>
  /** A run of a handler, with all that bounds it. */
  readonly run: <A, E, R>(given: Given, effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** The handler itself: what it does not return within its time is interrupted. */
  readonly handler: <A, E, R>(given: Given, effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** A publish, with all of its repeats. Succeeds with whether it only joined a transaction. */
  readonly publish: (
    topic: string,
    records: ReadonlyArray<EncodedRecord>,
    effect: Effect.Effect<"stored" | "joined", PublishError>
  ) => Effect.Effect<"stored" | "joined", PublishError>
}

/**
 * What is around the steps of the layers that are built with it. Default:
 * nothing.
 *
 * @category references
 * @since 0.1.0
 */
export const Interference = Context.Reference<Around | undefined>("@surety/core/Interference", {
  defaultValue: () => undefined
})
