/**
 * Publishing.
 *
 * What `publish` promises is the guarantee of the topic:
 *
 * - at-most-once: one try; a failure is reported, a loss behind it is not.
 * - at-least-once and exactly-once: repeated by the guarantee's schedule, with
 *   one message id, until the transport acknowledges it.
 *
 * Inside a transaction the message becomes part of it: in an exactly-once
 * handler it is kept back and stored just before the handler's transaction
 * settles; in a `sql.withTransaction` of the transport's own database it is
 * stored with that transaction. Nothing leaves before the commit, and a rollback
 * leaves nothing.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type * as Guarantee from "./Guarantee.ts"
import * as internal from "./internal/producer.ts"
import type { PublishError } from "./PublishError.ts"
import type * as Topic from "./Topic.ts"

/**
 * What a successful publish tells.
 *
 * @category models
 * @since 0.1.0
 */
export interface Receipt {
  readonly id: string
  /**
   * `stored` when the transport has acknowledged it; `joined` when it is part
   * of a transaction that has not committed yet.
   */
  readonly state: "stored" | "joined"
}

/**
 * What a single publish may override.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** The deduplication id, instead of the topic's. */
  readonly id?: string | undefined
  /** The key, instead of the topic's. */
  readonly key?: string | undefined
  readonly headers?: Readonly<Record<string, string>> | undefined
}

/**
 * Publishes one message.
 *
 * **Gotchas**
 *
 * A message published in a transaction (`state: "joined"`) is not acknowledged
 * until that transaction commits.
 *
 * @category publishing
 * @since 0.1.0
 */
export const publish = <S extends Schema.Constraint, G extends Guarantee.Name, C>(
  topic: Topic.Topic<S, G, C>,
  payload: NoInfer<S["Type"]>,
  options?: Options
): Effect.Effect<Receipt, PublishError, Guarantee.Required<G, C> | S["EncodingServices"]> =>
  Effect.map(internal.publish(topic, [payload], options), (receipts) => receipts[0]!)

/**
 * Publishes messages together, in their order: stored all or none where the
 * transport can (in memory and PostgreSQL), in one round trip.
 *
 * **Details**
 *
 * Every payload is encoded before anything is sent: one that does not encode
 * fails the whole call, and nothing leaves.
 *
 * @category publishing
 * @since 0.1.0
 */
export const publishAll = <S extends Schema.Constraint, G extends Guarantee.Name, C>(
  topic: Topic.Topic<S, G, C>,
  payloads: ReadonlyArray<NoInfer<S["Type"]>>,
  options?: Pick<Options, "headers">
): Effect.Effect<ReadonlyArray<Receipt>, PublishError, Guarantee.Required<G, C> | S["EncodingServices"]> =>
  internal.publish(topic, payloads, options)
