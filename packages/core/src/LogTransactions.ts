/**
 * Transactions of a log itself: the progress of a group, and what its handlers
 * publish, commit together, in the log and nowhere else.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type { Inbox } from "./Inbox.ts"
import type { Outbox } from "./Outbox.ts"

/**
 * What the engine settles with, made of a log's own transactions: an inbox that
 * remembers no ids, so that every message is new to it, and an outbox that
 * carries to the same log.
 *
 * @category services
 * @since 0.1.0
 */
export class LogTransactions extends Context.Service<
  LogTransactions,
  {
    readonly inbox: Inbox["Service"]
    readonly outbox: Outbox["Service"]
  }
>()("@surety/core/LogTransactions") {}
