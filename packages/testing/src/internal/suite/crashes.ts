/** A store that ends without warning, and comes back. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { eventsOf, message, messages } from "./model.ts"
import { all, forEach, lossless, type Scenario } from "./scenario.ts"

const crashing = forEach(
  all,
  "what was acknowledged before a crash of the store is there after it, and nothing takes effect that should not",
  (harness, guarantee) =>
    Effect.gen(function* () {
      const publisher = yield* harness.start
      const topic = harness.topic(guarantee)
      const out = harness.topic(guarantee)
      for (const worker of [yield* harness.start, yield* harness.start]) {
        yield* harness.consume(worker, topic, {
          concurrency: 2,
          batchSize: 4,
          // In its transaction, where it has one.
          handle: ({ emit, id, run }) =>
            guarantee === "exactly-once" ? emit(out, message(`out of ${id} by run ${run}`)) : Effect.void
        })
      }
      yield* harness.consume(publisher, out, { group: "observer" })
      let parts = 0
      let stopped = false
      // At-most-once, and where repeating ends, a publish may fail: how it ended is in the history.
      const flow = yield* Effect.suspend(() =>
        Effect.ignore(harness.publish(publisher, topic, messages(8, 8, `part-${++parts}`)))
      ).pipe(Effect.repeat({ until: () => stopped }), Effect.forkScoped)
      const acknowledged = () =>
        eventsOf(harness.history.events, "Publish", topic).filter(({ outcome }) => outcome === "ok").length
      const goesOn = Effect.suspend(() => {
        const before = acknowledged()
        return harness.seen("publishing goes on", () => acknowledged() > before + 40)
      })
      for (let i = 0; i < 2; i++) {
        yield* goesOn
        yield* harness.crashStore
      }
      yield* goesOn
      stopped = true
      yield* harness.until(
        "the publisher ends",
        Effect.sync(() => flow.pollUnsafe() !== undefined)
      )
      const history = yield* harness.verify
      assert.isAbove(eventsOf(history, "End", topic).length, 0)
    })
)

const atThatMoment = forEach(
  lossless,
  "what was acknowledged just before the store crashed is handled",
  (harness, guarantee) =>
    Effect.gen(function* () {
      const node = yield* harness.start
      const topic = harness.topic(guarantee)
      yield* harness.publish(node, topic, messages(12, 4))
      yield* harness.crashStore
      yield* harness.consume(node, topic)
      yield* harness.handled(12, topic)
      yield* harness.verify
    })
)

export const crashes: ReadonlyArray<Scenario> = [...atThatMoment, ...crashing].map((scenario) => ({
  ...scenario,
  needsCrash: true
}))
