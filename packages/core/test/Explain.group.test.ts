/** What an explanation says of a consumer group. */
import { assert, describe, it } from "@effect/vitest"
import { type AtLeastOnce, type ConsumeError, Consumer, type Explain, type Guarantee, Surety } from "@surety/core"
import { Context, Effect, Layer, Schedule } from "effect"
import { Broken, type Busy, during, layerOver, notes } from "./support.ts"

const topicOf = ({ topics }: Explain.Explanation): Explain.TopicExplanation => {
  assert.strictEqual(topics.length, 1)
  return topics[0]!
}

const ignoring = (): Layer.Layer<never, ConsumeError, AtLeastOnce> =>
  Consumer.layer(Consumer.make(notes("at-least-once"), { group: "readers", handler: () => Effect.void }))

describe("a group", () => {
  const groupOf = <A, R>(consumer: Consumer.Consumer<A, never, R>) =>
    Effect.map(
      Surety.explain(Consumer.layer(consumer).pipe(Layer.provide(Surety.layerMemory))) as Effect.Effect<
        Explain.Explanation,
        ConsumeError | Guarantee.CompositionError
      >,
      (explanation) => topicOf(explanation).groups[0]!
    )
  const failing = (): Effect.Effect<void, Busy | Broken> => Effect.fail(new Broken())
  const retries = (times: number) => Schedule.spaced("1 second").pipe(Schedule.upTo({ times }))

  it.effect("tells what becomes of each failure, as the engine decides it", () =>
    Effect.gen(function* () {
      const consumer = Consumer.make(notes("at-least-once"), { group: "readers", handler: failing }).pipe(
        Consumer.retry("Busy", retries(4)),
        Consumer.discard("Broken"),
        // Too late for both: what was said of them first holds.
        Consumer.retry(retries(2)),
        Consumer.stop("Busy")
      )
      const { failures } = yield* groupOf(consumer)
      assert.deepStrictEqual(
        failures.map(({ retries, tag, then }) => [tag, retries?.times ?? null, then]),
        [
          ["Busy", 4, "stop"],
          ["Broken", null, "discard"],
          [null, 2, "dead-letter"]
        ]
      )
      const [rest] = (yield* groupOf(
        Consumer.make(notes("at-least-once"), { group: "readers", handler: failing }).pipe(Consumer.orDeadLetter)
      )).failures
      assert.deepStrictEqual(rest, { tag: null, retries: null, then: "dead-letter" })
    })
  )

  it.effect("shows its settings", () =>
    Effect.gen(function* () {
      const consumer = Consumer.makeBatch(notes("at-least-once"), {
        group: "readers",
        handler: () => Effect.void,
        concurrency: 7,
        prefetch: 90,
        maxSize: 20,
        maxWait: "2 seconds",
        startFrom: "latest",
        handlerTimeout: Infinity,
        drainTimeout: "3 seconds",
        redeliverAfter: "4 seconds",
        maxCrashes: 5,
        defectRetry: retries(6),
        restart: retries(8)
      })
      const { defects, possible, restart, ...settings } = yield* groupOf(consumer)
      assert.deepStrictEqual(settings, {
        name: "readers",
        startFrom: "latest",
        concurrency: 7,
        prefetch: 90,
        batch: { maxSize: 20, maxWait: 2000 },
        handlerTimeout: null,
        drainTimeout: 3000,
        redeliverAfter: 4000,
        maxCrashes: 5,
        failures: []
      })
      assert.deepStrictEqual([defects?.times, restart?.times], [6, 8])
      assert.deepStrictEqual(possible, ["messages that were published before the group was registered are not handled"])
    })
  )

  it.effect("at-most-once repeats nothing, and counts no crashes", () =>
    Effect.gen(function* () {
      const group = yield* groupOf(
        Consumer.make(notes("at-most-once"), { group: "readers", handler: () => Effect.void })
      )
      assert.deepInclude(group, { defects: null, maxCrashes: null, redeliverAfter: null, batch: null })
    })
  )

  it.effect("over a transport that keeps nothing aside waits for every retry", () =>
    Effect.gen(function* () {
      const layer = layerOver(({ characteristics }) => ({ characteristics: { ...characteristics, redelivery: false } }))
      const { groups } = topicOf(yield* Surety.explain(ignoring().pipe(Layer.provide(layer))))
      assert.isNull(groups[0]!.redeliverAfter)
    })
  )

  it.effect("has schedules that may need services of the app", () =>
    Effect.gen(function* () {
      class Patience extends Context.Service<Patience, number>()("test/Patience") {}
      const schedule = Schedule.spaced("1 second").pipe(
        Schedule.while(({ attempt }) => Effect.map(Patience, (times) => attempt <= times))
      )
      const consumer = Consumer.make(notes("at-least-once"), { group: "readers", handler: failing }).pipe(
        Consumer.retry(schedule),
        Consumer.orDeadLetter
      )
      const app = Consumer.layer(consumer).pipe(
        Layer.provide(Layer.succeed(Patience, 3)),
        Layer.provide(Surety.layerMemory)
      )
      assert.strictEqual(topicOf(yield* Surety.explain(app)).groups[0]!.failures[0]!.retries?.times, 3)
    })
  )

  it.effect("is explained while others of it run", () =>
    during(
      Consumer.make(notes("at-least-once"), { group: "readers", handler: () => Effect.void }),
      Effect.map(Surety.explain(ignoring()), (explanation) =>
        assert.strictEqual(topicOf(explanation).groups[0]!.name, "readers")
      )
    ).pipe(Effect.provide(Surety.layerMemory))
  )
})
