/**
 * How far groups are behind, as metrics: gauges `surety.lag` and
 * `surety.parked`, by `messaging.destination.name`,
 * `messaging.consumer.group.name` and `messaging.destination.partition.id`.
 *
 * The store is asked for them: without this layer it is not, and nothing is
 * spent on them. One process that has the layer is enough for all.
 *
 * Known limits: while the store cannot be asked, the gauges keep what they had.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Schedule from "effect/Schedule"
import type * as Schema from "effect/Schema"
import { explaining } from "./Backend.ts"
import * as Guarantee from "./Guarantee.ts"
import * as metrics from "./internal/metrics.ts"
import type * as Topic from "./Topic.ts"

/**
 * Whose lag is measured, and how often.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly group: string
  /** Default 15 seconds. */
  readonly every?: Duration.Input | undefined
}

/**
 * Measures the lag of a group on each partition of a topic, at once and then
 * again and again. A group that is not registered yet has none.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <S extends Schema.Constraint, G extends Guarantee.Name, C>(
  topic: Topic.Topic<S, G, C>,
  options: Options
): Layer.Layer<never, never, Guarantee.Required<G, C>> =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      const { transport } = yield* Guarantee.required(topic)
      if (yield* explaining) return
      const measure = Effect.flatMap(transport.progress(topic.name, options.group), (partitions) =>
        Effect.forEach(
          partitions,
          ({ lag, parked, partition }) => {
            const gauges = metrics.ofPartition(topic.name, options.group, partition)
            return Effect.andThen(Metric.update(gauges.lag, lag), Metric.update(gauges.parked, parked))
          },
          { discard: true }
        )
      )
      yield* measure.pipe(
        Effect.catch((error) => Effect.logDebug(`the lag of group "${options.group}" is not known: ${error.message}`)),
        Effect.repeat(Schedule.spaced(Duration.fromInputUnsafe(options.every ?? "15 seconds"))),
        Effect.forkScoped
      )
    })
  )
