/**
 * What consumers are doing, as typed events: for tests that wait for something
 * to have happened, and for tools that watch.
 *
 * Without {@link layer} nothing is recorded. Metrics are kept in any case, by
 * Effect's `Metric`, and spans are made where a tracer is installed:
 *
 * - counters `surety.published`, `surety.handled`, `surety.duplicates`,
 *   `surety.failed_attempts`, `surety.retries`, `surety.redeliveries`,
 *   `surety.discarded`, `surety.dead_letters`; gauge `surety.in_flight`; timer
 *   `messaging.process.duration`; all by `messaging.destination.name` and, but
 *   for the first, `messaging.consumer.group.name`. The lag is asked of the
 *   store, where a `Lag.layer` says so.
 * - a `producer` span for each publish, whose context travels in the header
 *   `traceparent`, and a `consumer` span for each attempt, linked to it.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as PubSub from "effect/PubSub"
import * as Stream from "effect/Stream"

/**
 * The partition that an event is about, and the lease under which it happened.
 *
 * @category models
 * @since 0.1.0
 */
export interface OfPartition {
  readonly topic: string
  readonly group: string
  readonly partition: number
  readonly epoch: number
}

/**
 * The message that an event is about.
 *
 * @category models
 * @since 0.1.0
 */
export interface OfMessage extends OfPartition {
  readonly id: string
  readonly key: string | undefined
  readonly offset: number
  readonly attempt: number
}

/**
 * What happened. No event holds a payload, headers, or the message of an error.
 *
 * - `Assigned`, `Released`, `LeaseLost`: of a partition.
 * - `Claimed`: so many records of a partition.
 * - `Started`: a handler, of an attempt.
 * - `Handled`: settled after a handler succeeded.
 * - `Duplicate`: settled without a handler, since its id was settled before.
 * - `Failed`: an attempt; what becomes of the message follows in the next
 *   event, which is one of `Retrying` in so many milliseconds, `Parked` until a
 *   time, `DeadLettered`, `Discarded` or `Stopped`.
 *
 * @category models
 * @since 0.1.0
 */
export type Event =
  | ({ readonly _tag: "Assigned" | "Released" | "LeaseLost" } & OfPartition)
  | ({ readonly _tag: "Claimed"; readonly count: number } & OfPartition)
  | ({ readonly _tag: "Started" | "Handled" | "Duplicate" | "Discarded" } & OfMessage)
  | ({ readonly _tag: "Failed" | "DeadLettered" | "Stopped"; readonly failure: string } & OfMessage)
  | ({ readonly _tag: "Retrying"; readonly delay: number } & OfMessage)
  | ({ readonly _tag: "Parked"; readonly dueAt: number } & OfMessage)

/**
 * The events of the consumers that were built with it.
 *
 * @category services
 * @since 0.1.0
 */
export class Diagnostics extends Context.Service<
  Diagnostics,
  {
    /** Those from the moment on at which the stream runs. */
    readonly events: Stream.Stream<Event>
    readonly emit: (event: Event) => void
  }
>()("@surety/core/Diagnostics") {}

/**
 * Records events for whoever subscribes. A subscriber that lags behind by more
 * than `capacity` events (16,384 by default) loses the oldest of them.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: { readonly capacity: number }): Layer.Layer<Diagnostics> =>
  Layer.effect(
    Diagnostics,
    Effect.map(PubSub.sliding<Event>(options.capacity), (pubsub) => ({
      events: Stream.fromPubSub(pubsub),
      emit: (event) => void PubSub.publishUnsafe(pubsub, event)
    }))
  )

/**
 * Records events for whoever subscribes.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Diagnostics> = layerWith({ capacity: 16_384 })

/**
 * The events of the consumers that were built with {@link Diagnostics}, from
 * the moment on at which the stream runs.
 *
 * @category accessors
 * @since 0.1.0
 */
export const events: Stream.Stream<Event, never, Diagnostics> = Stream.unwrap(
  Effect.map(Diagnostics, ({ events }) => events)
)
