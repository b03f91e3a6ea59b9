/**
 * The store behind the in-memory transport, inbox, outbox and dead letters.
 *
 * The layers named `layerMemory` share one by themselves, wherever they are
 * built together. It is a service of its own so that a test can put several
 * nodes on one store.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as internal from "./internal/memory/store.ts"
import { CurrentSavepoint, CurrentTx } from "./internal/memory/transaction.ts"

/**
 * The shared state. Opaque.
 *
 * @category services
 * @since 0.1.0
 */
export class MemoryStore extends Context.Service<MemoryStore, internal.Store>()("@surety/core/MemoryStore") {}

/**
 * The process that a layer stands for, where a test puts several on one store.
 *
 * **Details**
 *
 * Once `alive` is false, everything that the node asks of the store fails as
 * unavailable, and its heartbeats and finalizers no longer reach it: what a
 * crash looks like from outside.
 *
 * @category references
 * @since 0.1.0
 */
export const Node = Context.Reference<{ alive: boolean }>("@surety/core/MemoryStore/Node", {
  defaultValue: () => ({ alive: true })
})

/**
 * A transaction of the store. Opaque, but for whoever keeps rows of his own in
 * memory, which are to be part of it.
 *
 * @category transactions
 * @since 0.1.0
 */
export interface Transaction {
  readonly state: "open" | "committed" | "aborted"
  /** Run when it commits, in their order and all at once: they cannot fail. */
  readonly changes: Array<() => void>
  /** Run when it is aborted, the latest first; those of a savepoint also when that is rolled back. */
  readonly undo: Array<() => void>
  /** Opens when it has ended, in whichever way. */
  readonly ended: Latch.Latch
}

/**
 * The transaction that the calling fiber is in.
 *
 * @category transactions
 * @since 0.1.0
 */
export const currentTransaction: Effect.Effect<Transaction | undefined> = CurrentTx

/**
 * Aborts a transaction that is open, as a store does when it loses the
 * connection.
 *
 * @category transactions
 * @since 0.1.0
 */
export const abort = (transaction: Transaction): void => internal.abort(transaction as internal.Tx)

/**
 * Whether the calling fiber is in a {@link savepoint}.
 *
 * @category transactions
 * @since 0.1.0
 */
export const inSavepoint: Effect.Effect<boolean> = Effect.map(CurrentSavepoint, (id) => id !== undefined)

/**
 * Runs an effect in a savepoint of the transaction that the calling fiber is in,
 * as `sql.withTransaction` does in a handler on PostgreSQL: unless it succeeds,
 * what it has written and published is no part of the transaction, and nothing
 * else is lost. It dies outside of a transaction.
 *
 * **Gotchas**
 *
 * Whoever waits for a row that was locked in it waits for the end of the
 * transaction. At-most-once messages are sent all the same.
 *
 * @category transactions
 * @since 0.1.0
 */
export const savepoint = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(CurrentTx, (tx) => {
    if (tx === undefined) return Effect.die(new Error("MemoryStore.savepoint is used outside of a transaction"))
    const { id, rollBack } = internal.savepoint(tx)
    return Effect.provideService(effect, CurrentSavepoint, id).pipe(
      Effect.onExit((exit) => (Exit.isSuccess(exit) ? Effect.void : Effect.sync(rollBack)))
    )
  })

/**
 * The store has ended a transaction: it lost the connection, or broke a
 * deadlock. In a handler it is no failure of the message, whose transaction is
 * repeated.
 *
 * @category errors
 * @since 0.1.0
 */
export class ConnectionLost extends Schema.TaggedError<ConnectionLost>("@surety/core/MemoryStore/ConnectionLost")(
  "ConnectionLost",
  { detail: Schema.String }
) {
  override get message(): string {
    return `${this.detail}; nothing of the transaction was stored, repeat it`
  }
}

/**
 * What keeps a promise of the store: `epoch`, that a former holder of a
 * partition settles nothing more; `horizon`, that no record is passed over
 * which commits late; `savepoint`, that what was published in a savepoint that
 * was rolled back does not leave.
 *
 * @category models
 * @since 0.1.0
 */
export type Protection = internal.Protection

/**
 * Protections that are switched off, for a test that shows what would go wrong.
 *
 * @category references
 * @since 0.1.0
 */
export const Unprotected = Context.Reference<ReadonlySet<Protection>>("@surety/core/MemoryStore/Unprotected", {
  defaultValue: () => new Set()
})

/**
 * Options of a store.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** How long a silent member keeps its partitions. Default 15 seconds. */
  readonly lease?: Duration.Input | undefined
  /** The largest record, in bytes of id, key, headers and payload together. Default 1 MiB. */
  readonly maxRecordBytes?: number | undefined
  /**
   * For how long what is over is kept: messages of the log, once every group of
   * their topic has settled them, and settled ids of the inbox. It is dropped
   * when something new comes. Default `forever`, for both.
   */
  readonly retention?:
    | {
        readonly log?: Duration.Input | "forever" | undefined
        readonly inbox?: Duration.Input | "forever" | undefined
      }
    | undefined
}

/**
 * The options of the store that is made by {@link layer}, and with it by every
 * layer named `layerMemory`.
 *
 * @category references
 * @since 0.1.0
 */
export const CurrentOptions = Context.Reference<Options>("@surety/core/MemoryStore/CurrentOptions", {
  defaultValue: () => ({})
})

const toRetention = (input: Duration.Input | "forever" = "forever"): number | "forever" => {
  const millis = input === "forever" ? Infinity : Duration.toMillis(Duration.fromInputUnsafe(input))
  return Number.isFinite(millis) ? Math.max(0, millis) : "forever"
}

/**
 * The store, with the options that {@link CurrentOptions} says.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<MemoryStore> = Layer.effect(
  MemoryStore,
  Effect.gen(function* () {
    const { lease, maxRecordBytes, retention } = yield* CurrentOptions
    const settings = {
      leaseMillis: Duration.toMillis(Duration.fromInputUnsafe(lease ?? "15 seconds")),
      maxRecordBytes: maxRecordBytes ?? 1024 * 1024,
      retention: { log: toRetention(retention?.log), inbox: toRetention(retention?.inbox) }
    }
    return internal.make(settings, yield* Clock.Clock, yield* Unprotected)
  })
)

/**
 * Sets the options of the store.
 *
 * **Example**
 *
 * ```ts
 * Surety.layerMemory.pipe(Layer.provide(MemoryStore.options({ lease: "5 seconds" })))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const options = (options: Options): Layer.Layer<never> => Layer.succeed(CurrentOptions, options)
