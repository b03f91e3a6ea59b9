/**
 * The transaction of a message.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"

/**
 * The transaction in which an exactly-once handler runs: its SQL writes, the
 * messages it publishes and the settlement of its message commit together or
 * not at all.
 *
 * **When to use**
 *
 * Ask for it in code that must not run outside such a transaction: only an
 * exactly-once handler of that store is given it, so elsewhere the program does
 * not compile.
 *
 * @category services
 * @since 0.1.0
 */
export class Transaction extends Context.Service<
  Transaction,
  {
    /** The store whose transaction it is. */
    readonly store: object
    /**
     * Runs an effect after the commit, and not at all after a rollback.
     *
     * **Gotchas**
     *
     * It is lost when the process ends between the commit and the effect, and
     * runs again for no message: use it for what may be missed, such as
     * dropping a cache entry.
     */
    readonly afterCommit: (effect: Effect.Effect<void>) => Effect.Effect<void>
  }
>()("@surety/core/Transaction") {}
