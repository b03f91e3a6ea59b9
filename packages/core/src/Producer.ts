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
 * leaves nothing; `publishNow` is the exception that says so in its name.
 *
 * With a `delay`, or `deliverAt`, all of this holds of a message that can be
 * read later: see `DelayedDelivery`, which publishing it then requires.
 *
 * @since 0.1.0
 */
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type * as Channel from "./Channel.ts"
import type { DelayedDelivery } from "./DelayedDelivery.ts"
import * as Guarantee from "./Guarantee.ts"
import * as internal from "./internal/producer.ts"
import { CurrentUnit } from "./internal/unit.ts"
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
 * A point in time; numbers are milliseconds since the epoch.
 *
 * @category models
 * @since 0.1.0
 */
export type Moment = number | Date | DateTime.DateTime

/**
 * What a single publish may override, and when its messages are to be readable.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<out Delay = undefined, out At = undefined> {
  /** The deduplication id, instead of the topic's. */
  readonly id?: string | undefined
  /** The key, instead of the topic's. */
  readonly key?: string | undefined
  readonly headers?: Readonly<Record<string, string>> | undefined
  /**
   * Readable not before so long after it was stored, by the store's clock.
   * Counted anew when publishing is repeated. Default: at once.
   */
  readonly delay?: Delay | undefined
  /** Readable not before this time, by the store's clock; at once when it is past. Not together with `delay`. */
  readonly deliverAt?: At | undefined
}

/**
 * What publishing with these options requires in addition: delayed delivery on
 * the topic's channel, where a delay is given or may be.
 *
 * @category models
 * @since 0.1.0
 */
export type Delayed<Delay, At, C> = [Delay | At] extends [undefined] ? never : Channel.Of<DelayedDelivery, C>

/**
 * Publishes one message.
 *
 * **Details**
 *
 * With `delay` or `deliverAt` it is stored, and acknowledged, at once, and
 * becomes readable at that time; this requires `DelayedDelivery`.
 *
 * **Gotchas**
 *
 * A message published in a transaction (`state: "joined"`) is not acknowledged
 * until that transaction commits.
 *
 * **Example**
 *
 * ```ts
 * Producer.publish(Reminders, reminder, { delay: "30 minutes" })
 * ```
 *
 * @category publishing
 * @since 0.1.0
 */
export const publish = <
  S extends Schema.Constraint,
  G extends Guarantee.Name,
  C,
  Delay extends Duration.Input | undefined = undefined,
  At extends Moment | undefined = undefined
>(
  topic: Topic.Topic<S, G, C>,
  payload: NoInfer<S["Type"]>,
  options?: Options<Delay, At>
): Effect.Effect<Receipt, PublishError, Guarantee.Required<G, C> | Delayed<Delay, At, C> | S["EncodingServices"]> =>
  Effect.map(internal.publish(topic, [payload], options), (receipts) => receipts[0]!)

/**
 * Publishes messages together, in their order: stored all or none where the
 * transport can (in memory and PostgreSQL), in one round trip.
 *
 * **Details**
 *
 * Every payload is encoded before anything is sent: one that does not encode
 * fails the whole call, and nothing leaves. With `delay` or `deliverAt` all of
 * them become readable together.
 *
 * @category publishing
 * @since 0.1.0
 */
export const publishAll = <
  S extends Schema.Constraint,
  G extends Guarantee.Name,
  C,
  Delay extends Duration.Input | undefined = undefined,
  At extends Moment | undefined = undefined
>(
  topic: Topic.Topic<S, G, C>,
  payloads: ReadonlyArray<NoInfer<S["Type"]>>,
  options?: Omit<Options<Delay, At>, "id" | "key">
): Effect.Effect<
  ReadonlyArray<Receipt>,
  PublishError,
  Guarantee.Required<G, C> | Delayed<Delay, At, C> | S["EncodingServices"]
> => internal.publish(topic, payloads, options)

/**
 * Publishes one message at once, whether or not the caller is in a transaction.
 *
 * **When to use**
 *
 * For what is to be known even when the handler or the transaction fails: that
 * an attempt was made, say.
 *
 * **Gotchas**
 *
 * It leaves although the transaction may be rolled back, and leaves again each
 * time a handler is repeated: with an id of the topic's or of `options`, an
 * exactly-once consumer takes it once. While it is stored, the transaction of
 * the caller stays open.
 *
 * @category publishing
 * @since 0.1.0
 */
export const publishNow: typeof publish = (topic, payload, options) =>
  Effect.flatMap(Guarantee.required(topic), ({ transport }) =>
    internal.publish(topic, [payload], options).pipe(
      Effect.provideService(CurrentUnit, undefined),
      transport.outsideTransaction,
      Effect.map((receipts) => receipts[0]!)
    )
  )
