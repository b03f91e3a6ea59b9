import { assert, describe, it } from "@effect/vitest"
import { type AtLeastOnce, Consumer, Lag, MemoryStore, Producer, Surety } from "@surety/core"
import { Deferred, Effect, Layer, Metric, Schedule } from "effect"
import { TestClock } from "effect/testing"
import { Busy, during, layerOver, note, notes, quiet } from "./support.ts"

const Notes = notes("at-least-once", 2)

/** The gauges by their partitions, of a registry of the test's own. */
const gauges = Effect.map(Metric.snapshot, (metrics) =>
  metrics
    .flatMap((metric) =>
      metric.type === "Gauge" && metric.attributes?.["messaging.destination.partition.id"] !== undefined
        ? [`${metric.id} ${metric.attributes["messaging.destination.partition.id"]}: ${metric.state.value}`]
        : []
    )
    .sort()
)

const alone = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => Effect.provideService(effect, Metric.MetricRegistry, new Map()))

const live = Layer.provideMerge(Lag.layer(Notes, { group: "readers" }), Surety.layerMemory)

describe("the lag of a group", () => {
  it.effect("is measured on each partition, again and again", () =>
    Effect.gen(function* () {
      const go = yield* Deferred.make<void>()
      yield* quiet
      // It is not registered yet.
      assert.deepStrictEqual(yield* gauges, [])
      yield* Producer.publishAll(
        Notes,
        ["a", "b", "c", "d", "e"].map((id) => note(id, id))
      )
      const reader = Consumer.make(Notes, { group: "readers", handler: () => Deferred.await(go) })
      yield* during(
        reader,
        Effect.gen(function* () {
          yield* TestClock.adjust("15 seconds")
          yield* quiet
          const before = yield* gauges
          assert.lengthOf(before, 4)
          const lag = before.flatMap((line) => (line.startsWith("surety.lag") ? [Number(line.split(": ")[1])] : []))
          assert.strictEqual(lag[0]! + lag[1]!, 5)
          yield* Deferred.succeed(go, undefined)
          yield* quiet
          yield* TestClock.adjust("15 seconds")
          yield* quiet
          assert.deepStrictEqual(yield* gauges, [
            "surety.lag 0: 0",
            "surety.lag 1: 0",
            "surety.parked 0: 0",
            "surety.parked 1: 0"
          ])
        })
      )
    }).pipe(Effect.provide(live), alone)
  )

  it.effect("counts a parked message once, whether or not the progress has passed it", () =>
    Effect.gen(function* () {
      const go = yield* Deferred.make<void>()
      const One = notes("at-least-once")
      yield* Producer.publishAll(One, [note("slow", "k"), note("later", "l")])
      yield* during(
        Consumer.make(One, {
          group: "readers",
          concurrency: 2,
          redeliverAfter: 0,
          handler: ({ id }) => (id === "slow" ? Deferred.await(go) : new Busy({ wait: 1 }))
        }).pipe(Consumer.retry(Schedule.spaced("1 day")), Consumer.orDeadLetter),
        Effect.gen(function* () {
          yield* TestClock.adjust("15 seconds")
          yield* quiet
          assert.deepStrictEqual(yield* gauges, ["surety.lag 0: 2", "surety.parked 0: 1"])
          yield* Deferred.succeed(go, undefined)
          yield* quiet
          yield* TestClock.adjust("15 seconds")
          yield* quiet
          assert.deepStrictEqual(yield* gauges, ["surety.lag 0: 1", "surety.parked 0: 1"])
        })
      )
    }).pipe(Effect.provide(live), alone)
  )

  it.effect("is not asked of a store that cannot be reached any more, and is again when it can", () =>
    Effect.gen(function* () {
      yield* Producer.publish(Notes, note("a", "a"))
      yield* during(Consumer.make(Notes, { group: "readers", handler: () => Effect.void }), quiet)
      const node = yield* MemoryStore.Node
      node.alive = false
      yield* TestClock.adjust("15 seconds")
      assert.deepStrictEqual(yield* gauges, [])
      node.alive = true
      yield* TestClock.adjust("15 seconds")
      assert.lengthOf(yield* gauges, 4)
    }).pipe(Effect.provide(live), Effect.provideService(MemoryStore.Node, { alive: true }), alone)
  )

  it.effect("is asked for by its layer alone, and not when that is explained", () =>
    Effect.gen(function* () {
      let asked = 0
      const counting = layerOver((real) => ({
        progress: (topic, group) => {
          asked++
          return real.progress(topic, group)
        }
      }))
      const app = Consumer.layer(Consumer.make(Notes, { group: "readers", handler: () => Effect.void }))
      const measured = Lag.layer(Notes, { group: "readers", every: "1 second" })
      const run = (layer: Layer.Layer<never, unknown, AtLeastOnce>) =>
        Effect.scoped(
          Effect.andThen(Layer.build(Layer.provide(layer, counting)), Effect.andThen(TestClock.adjust("1 hour"), quiet))
        )
      yield* run(app)
      assert.strictEqual(asked, 0)
      yield* Surety.explain(Layer.provide(measured, counting))
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(asked, 0)
      yield* run(Layer.merge(app, measured))
      assert.isAtLeast(asked, 1)
    }).pipe(alone)
  )
})
