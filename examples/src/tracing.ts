/**
 * Tracing: spans, metrics and logs go to an OpenTelemetry collector over HTTP
 * (OTLP). Each attempt of a handler is a trace of its own, linked to the publish
 * that its message comes from; no span, metric or log line holds a payload.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Consumer, Producer, Surety, Topic } from "@surety/core"
import { Config, Console, Effect, Layer, Schedule, Schema } from "effect"
import { FetchHttpClient } from "effect/http"
import { Otlp } from "effect/observability"
import { untilSettled } from "./support/untilSettled.ts"

const Orders = Topic.make("orders", {
  schema: Schema.Struct({ id: Schema.String, address: Schema.String }),
  guarantee: "at-least-once",
  id: (order) => order.id
})

class ShelfOutOfReach extends Schema.TaggedError<ShelfOutOfReach>()("ShelfOutOfReach", {}) {}

/** Its first attempt fails: that is a span as well. */
const Warehouse = Consumer.make(Orders, {
  group: "warehouse",
  handler: Effect.fn("Warehouse.pick")(function* (_, { attempt }) {
    if (attempt === 1) return yield* new ShelfOutOfReach()
  })
}).pipe(Consumer.retry(Schedule.recurs(3)), Consumer.orDeadLetter, Consumer.layer)

export const program = Effect.gen(function* () {
  yield* Producer.publish(Orders, { id: "order-1", address: "1 Private Road" }).pipe(Effect.withSpan("POST /orders"))
  yield* untilSettled(Orders, "warehouse")
}).pipe(Effect.provide(Warehouse), Effect.provide(Surety.layerMemory))

const endpoint = Config.String("OTEL_EXPORTER_OTLP_ENDPOINT").pipe(Config.withDefault("http://localhost:4318"))

/** Provided last, so that all of the app is traced. What is left is exported when it is released. */
const Telemetry = Layer.unwrap(
  Effect.map(endpoint, (baseUrl) => Otlp.layerJson({ baseUrl, resource: { serviceName: "shop" } }))
).pipe(Layer.provide(FetchHttpClient.layer))

if (import.meta.main) {
  program.pipe(
    Effect.provide(Telemetry),
    Effect.andThen(Effect.flatMap(endpoint, (url) => Console.log(`telemetry goes to ${url}`))),
    NodeRuntime.runMain
  )
}
