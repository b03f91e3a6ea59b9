/**
 * Invariant 23, on memory: with one seed, and under a virtual clock, each test
 * of the suite gives the same history twice, byte for byte.
 *
 * Known limits: the order in which fibers run is that of Effect's scheduler, and
 * not drawn from the seed. What a user's handler takes from elsewhere (`Date`,
 * `Math.random`, timers, the network) is not held fast by it.
 */
import { assert, describe, it } from "@effect/vitest"
import * as History from "@surety/testing/History"
import * as TransportTest from "@surety/testing/TransportTest"
import { Effect, Layer, Random } from "effect"
import { TestClock } from "effect/testing"
import * as Harness from "../src/internal/suite/harness.ts"
import { naming } from "../src/internal/suite/model.ts"
import type { Scenario } from "../src/internal/suite/scenario.ts"
import { scenarios } from "../src/internal/suite/scenarios.ts"
import { without } from "./support/without.ts"

/** The history of a test, in a world of its own. */
const historyOf = (scenario: Scenario, backend = TransportTest.memory()) =>
  Effect.gen(function* () {
    naming.suite = "seed"
    naming.last = 0
    const harness = yield* Harness.make(backend, assert.fail)
    yield* scenario.run(harness)
    return History.timeline(harness.history.events)
  }).pipe(
    Effect.scoped,
    Effect.provide(Layer.fresh(Layer.provideMerge(backend.store, TestClock.layer()))),
    Random.withSeed("seed")
  )

describe("one seed, one history", () => {
  for (const [section, tests] of Object.entries(scenarios)) {
    it.effect(section, () =>
      Effect.gen(function* () {
        for (const scenario of tests) {
          const [first, second] = [yield* historyOf(scenario), yield* historyOf(scenario)]
          assert.strictEqual(second, first, scenario.name)
        }
      })
    )
  }

  it.effect("is not what a backend gives that draws from elsewhere", () =>
    Effect.gen(function* () {
      let seconds = 0
      const scenario = scenarios.delivery.find(({ name }) => name.includes("every group handles every message"))!
      // As a clock on the wall would say: later the second time.
      const backend = () =>
        without({ assignment: ({ claim }) => ({ claim: (max) => Effect.delay(claim(max), ++seconds) }) })
      const [first, second] = [yield* historyOf(scenario, backend()), yield* historyOf(scenario, backend())]
      assert.notStrictEqual(second, first)
    })
  )
})
