/**
 * The inbox: which messages are settled, kept in the same store, and settled in
 * the same transaction, as the effects of their handlers.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { DeadLetter } from "./DeadLetters.ts"
import type { Part } from "./Description.ts"
import * as internal from "./internal/memory/inbox.ts"
import * as MemoryStore from "./MemoryStore.ts"
import type { Transaction } from "./Transaction.ts"
import type { Transport } from "./Transport.ts"
import type { TransportError } from "./TransportError.ts"

/**
 * How a message ended.
 *
 * @category models
 * @since 0.1.0
 */
export type Outcome = "handled" | "discarded" | "dead"

/**
 * The lease under which a transaction settles messages.
 *
 * @category models
 * @since 0.1.0
 */
export interface Holder {
  readonly topic: string
  readonly group: string
  readonly partition: number
  readonly epoch: number
}

/**
 * A transport of another store, and the inbox of its messages.
 *
 * @category models
 * @since 0.1.0
 */
export interface Adopted {
  readonly transport: Transport["Service"]
  readonly inbox: Inbox["Service"]
}

/**
 * Records which messages are settled.
 *
 * **Details**
 *
 * The key of a message is (group, topic, id). `admit` and `deadLetter` are
 * called inside `transaction`, and are part of it.
 *
 * @category services
 * @since 0.1.0
 */
export class Inbox extends Context.Service<
  Inbox,
  {
    /** Identifies the store, as `Transport.store` does. */
    readonly store: object
    readonly description: Part
    /**
     * How long a settled id is remembered: since then, and since the oldest
     * message that the group has not settled was stored, parked ones included. The
     * ids of dead letters are, for as long as the group has any (rule 22).
     */
    readonly retention: "forever" | Duration.Duration
    /**
     * Runs `body` in one transaction on behalf of a lease holder. A holder known
     * to be fenced is refused before `body` runs; the check that counts is the
     * last statement of `body` (`Assignment.settle` or `Assignment.fence`).
     */
    readonly transaction: <A, E, R>(
      holder: Holder,
      body: Effect.Effect<A, E, R>
    ) => Effect.Effect<A, E | TransportError, Exclude<R, Transaction>>
    /**
     * Inserts the messages with their outcomes, in the order of their ids, and
     * tells for each whether it is new: one that is not is settled already, and
     * of equal ids in one call only the first is new.
     */
    readonly admit: (
      holder: Holder,
      entries: ReadonlyArray<{ readonly id: string; readonly outcome: Outcome }>
    ) => Effect.Effect<ReadonlyArray<boolean>, TransportError>
    /** Stores dead letters. */
    readonly deadLetter: (letters: ReadonlyArray<DeadLetter>) => Effect.Effect<void, TransportError>
    /**
     * Whether a failure is the store's and not the handler's: a lost connection,
     * a deadlock, a serialization failure. Such failures are repeated without
     * counting as attempts of the message.
     */
    readonly isInfrastructure: (error: unknown) => boolean
    /**
     * Where the inbox can keep the progress of a transport of another store in
     * its own (rule 24): the same transport, but that the partitions which it
     * assigns are leased, settled, parked and dead-lettered in the inbox's store,
     * under an epoch of the inbox's own, and begin where the inbox says. The
     * transport is told how far the group has come, later, so that its own lag and
     * retention go by it.
     */
    readonly adopt?: ((transport: Transport["Service"]) => Adopted) | undefined
  }
>()("@surety/core/Inbox") {}

/**
 * An inbox in this process's memory, transactional with the other in-memory
 * services. It forgets nothing, unless `MemoryStore.options` say so.
 *
 * **Gotchas**
 *
 * A handler's changes to its own variables are not rolled back: only what goes
 * through `Transaction.afterCommit` or `Producer.publish` is part of the
 * transaction.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMemory: Layer.Layer<Inbox> = Layer.effect(Inbox, internal.make).pipe(Layer.provide(MemoryStore.layer))
