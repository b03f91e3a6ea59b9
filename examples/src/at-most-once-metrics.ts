/**
 * At-most-once: page views for a dashboard. One that is lost changes little; one
 * that is counted twice, or a page that waits for its metrics, would be worse.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Consumer, Producer, Surety, Topic } from "@surety/core"
import { Console, Effect, Metric, Schema } from "effect"
import { untilSettled } from "./support/untilSettled.ts"

const PageViews = Topic.make("page-views", {
  schema: Schema.Struct({ path: Schema.String, millis: Schema.Number }),
  guarantee: "at-most-once"
})

class ClockWentBack extends Schema.TaggedError<ClockWentBack>()("ClockWentBack", {}) {}

const views = Metric.frequency("page_views")

/** Its handler starts at most once for a view: `Consumer.retry` would be refused here. */
const Dashboard = Consumer.make(PageViews, {
  group: "dashboard",
  handler: Effect.fn("Dashboard.count")(function* ({ millis, path }) {
    if (millis < 0) return yield* new ClockWentBack()
    yield* Metric.update(views, path)
  })
}).pipe(Consumer.discard("ClockWentBack"), Consumer.layer)

export const program = Effect.gen(function* () {
  yield* Producer.publish(PageViews, { path: "/", millis: 12 })
  yield* Producer.publishAll(PageViews, [
    { path: "/pricing", millis: 48 },
    { path: "/docs", millis: -3 },
    { path: "/", millis: 9 }
  ])
  yield* untilSettled(PageViews, "dashboard")
}).pipe(
  Effect.provide(Dashboard), // released at the end: handlers that have begun may finish
  Effect.andThen(Metric.value(views)),
  Effect.map(({ occurrences }) => Object.fromEntries(occurrences)),
  Effect.provide(Surety.layerMemory)
)

if (import.meta.main) {
  program.pipe(
    Effect.flatMap((counts) => Console.log("4 page views published, counted:", counts)),
    NodeRuntime.runMain
  )
}
