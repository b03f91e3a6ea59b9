/** At most once: what is lost may be lost, what has started does not start again. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { eventsOf, Failed, message, messages } from "./model.ts"
import type { Scenario } from "./scenario.ts"

export const atMostOnce: ReadonlyArray<Scenario> = [
  {
    name: "progress is stored before the handler starts",
    run: (harness) =>
      Effect.gen(function* () {
        const node = yield* harness.start
        const topic = harness.topic("at-most-once", { partitions: 1 })
        const behind: Array<string> = []
        yield* harness.consume(node, topic, {
          handle: (run) =>
            Effect.map(Effect.orDie(harness.progress(topic)), (progress) => {
              const stored = progress.find(({ partition }) => partition === run.partition)!.settled
              if (stored < run.offset) behind.push(`${run.id}: stored ${stored}, runs ${run.offset}`)
            })
        })
        yield* harness.publish(node, topic, messages(10, 3, "a"))
        yield* harness.publish(node, topic, messages(10, 3, "b"))
        yield* harness.handled(20, topic)
        yield* harness.verify
        assert.deepStrictEqual(behind, [])
      })
  },

  {
    name: "a handler that was interrupted by a crash does not start again",
    run: (harness) =>
      Effect.gen(function* () {
        const one = yield* harness.start
        const topic = harness.topic("at-most-once")
        yield* harness.consume(one, topic, {
          handle: ({ id, on }) => (id === "m-5" ? Effect.andThen(on.crash, Effect.never) : Effect.void)
        })
        yield* harness.publish(one, topic, messages(20, 1))
        yield* harness.seen("the crash", (history) => eventsOf(history, "Crash").length === 1)
        const two = yield* harness.start
        yield* harness.consume(two, topic)
        yield* harness.publish(two, topic, messages(20, 4, "after"))
        yield* harness.seen(
          "what was published after the crash",
          (history) => eventsOf(history, "End", topic).filter(({ id }) => id.startsWith("after")).length === 20
        )
        const history = yield* harness.verify
        assert.strictEqual(eventsOf(history, "Start", topic).filter(({ id }) => id === "m-5").length, 1)
      })
  },

  {
    name: "a failed handler ends in the dead letters after its only attempt",
    run: (harness) =>
      Effect.gen(function* () {
        const node = yield* harness.start
        const topic = harness.topic("at-most-once")
        yield* harness.consume(node, topic, {
          handle: ({ id }) => (id === "m-2" ? Effect.fail(new Failed({ detail: "no" })) : Effect.void)
        })
        yield* harness.publish(node, topic, messages(4, 1))
        yield* harness.handled(3, topic)
        const history = yield* harness.verify
        assert.strictEqual(eventsOf(history, "Start", topic).length, 4)
        const letters = yield* harness.deadLetters(topic)
        assert.deepStrictEqual(
          letters.map(({ attempts, failure, record }) => [record.id, attempts, failure.tag]),
          [["m-2", 1, "Failed"]]
        )
      })
  },

  {
    name: "a publish that the store does not take is reported at once",
    run: (harness) =>
      Effect.gen(function* () {
        const node = yield* harness.start
        const reader = yield* harness.start
        const topic = harness.topic("at-most-once")
        yield* harness.consume(reader, topic)
        yield* harness.publish(node, topic, [message("before", "k")])
        yield* node.disconnect("lost")
        const publishing = yield* Effect.forkScoped(Effect.flip(harness.publish(node, topic, [message("lost", "k")])))
        yield* harness.until(
          "the publish ends",
          Effect.sync(() => publishing.pollUnsafe() !== undefined)
        )
        const error = yield* Effect.flatten(Effect.sync(() => publishing.pollUnsafe()!))
        assert.include(["NotSent", "MaybeSent"], error.reason._tag)
        yield* node.reconnect
        yield* harness.publish(node, topic, [message("after", "k")])
        yield* harness.handled(2, topic)
        const history = yield* harness.verify
        assert.isFalse(eventsOf(history, "Publish", topic).some(({ id, outcome }) => id === "lost" && outcome === "ok"))
      })
  }
]
