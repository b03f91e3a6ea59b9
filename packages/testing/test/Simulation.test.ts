/** The scenarios of `npm run simulate`, each over a few seeds, and what their simulation promises. */
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { assert, describe, it as effectIt } from "@effect/vitest"
import * as Simulation from "@surety/testing/Simulation"
import { it } from "@surety/testing/SimulationTest"
import { Effect } from "effect"
import { scenarios } from "../src/internal/scenarios/index.ts"
import { mutations } from "../src/internal/simulation/mutations.ts"

const minutes = 60_000

const scenario = (name: string) => scenarios.find((one) => one.name === name)!

describe("each promise holds, whatever happens", () => {
  for (const { about, app, name, options } of scenarios) {
    it.simulate(`${name}: ${about}`, app, { ...options, runs: 10, timeout: "3 minutes" })
  }
})

/** Invariant 24: the scenario, and one of the invariants that are violated there. */
const found: Record<keyof typeof mutations, readonly [scenario: string, invariant: number]> = {
  "inbox check": ["exactly-once", 5],
  "epoch check": ["at-least-once", 10],
  "snapshot bound": ["exactly-once", 4],
  savepoint: ["savepoints", 2],
  "settle after commit": ["exactly-once", 4],
  "key order": ["exactly-once", 11],
  "claim-time attempt": ["at-least-once", 13]
}

describe("without a protection, a violation is found within 500 seeds", () => {
  for (const [name, mutation] of Object.entries(mutations)) {
    const [where, invariant] = found[name as keyof typeof mutations]
    effectIt.live(
      `${name}: invariant ${invariant}`,
      () =>
        Effect.gen(function* () {
          const { app, options } = scenario(where)
          const all = { ...options, corpus: [], runs: 500, twice: false, mutation }
          const failed = yield* Effect.flip(Simulation.check(app, all))
          assert.include(
            failed.run.violations.map((violation) => violation.invariant),
            invariant
          )
        }),
      3 * minutes
    )
  }
})

effectIt.live(
  "a relay that settles what it has not sent yet is found to lose it",
  () =>
    Effect.gen(function* () {
      const { app, options } = scenario("relay")
      const mutation = mutations["settle after commit"]
      const all = { ...options, corpus: [], runs: 500, twice: false, shrinks: 0, mutation }
      const failed = yield* Effect.flip(Simulation.check(app, all))
      assert.include(
        failed.run.violations.map((violation) => violation.invariant),
        4
      )
    }),
  3 * minutes
)

describe("a failing run", () => {
  effectIt.live(
    "is reduced to what it fails with, and says how to run it again",
    () =>
      Effect.gen(function* () {
        const { app, options } = scenario("exactly-once")
        const failed = yield* Effect.flip(
          Simulation.check(app, { ...options, corpus: [], runs: 500, mutation: mutations["inbox check"] })
        )
        const { faults, nodes, steps } = failed.run.plan
        assert.isAtMost(faults.length, 2)
        assert.isAtMost(steps.length, 2)
        assert.isAtMost(nodes, 2)
        assert.isAbove(failed.before.steps.length, 10)
        assert.include(failed.message, `--seed ${failed.seed}`)
        assert.include(failed.message, "effects of 2 runs of")
        const { html } = failed
        for (const text of ["effects of 2 runs of", `--seed ${failed.seed}`, "<svg", "no more faults"])
          assert.include(html, text)
        // It loads nothing.
        assert.notMatch(html, /\b(src|href)=|url\((?!#)|@import|https?:/)
        // The plan is data: the same one again gives the same history.
        const again = yield* Simulation.run(app, {
          ...options,
          mutation: mutations["inbox check"],
          seed: failed.run.seed,
          plan: failed.run.plan
        })
        assert.deepStrictEqual(again.history, failed.run.history)
      }),
    3 * minutes
  )

  effectIt.live("is one that differs the second time", () =>
    Effect.gen(function* () {
      let runs = 0
      const failed = yield* Effect.flip(
        Simulation.check(scenario("at-least-once").app, {
          workload: [Effect.suspend(() => Effect.sleep(++runs))],
          faults: Simulation.none,
          runs: 1
        })
      )
      assert.deepStrictEqual(
        failed.run.violations.map(({ invariant }) => invariant),
        [23]
      )
    })
  )

  effectIt.live("is one whose expectation fails", () =>
    Effect.gen(function* () {
      const failed = yield* Effect.flip(
        Simulation.check(scenario("at-least-once").app, {
          workload: [],
          expect: Effect.fail(new Error("the balance is off")),
          runs: 1
        })
      )
      assert.include(failed.message, "the balance is off")
    })
  )
})

describe("one seed, one history", () => {
  const script = fileURLToPath(new URL("../../../scripts/simulate.ts", import.meta.url))
  const digests = async (jobs: number) => {
    const args = [script, "--digest", "--runs", "5", "--json", "--jobs", `${jobs}`]
    const { stdout } = await promisify(execFile)(process.execPath, args, { maxBuffer: 1 << 24 })
    return JSON.parse(stdout).scenarios.map(({ digest, scenario }: any) => [scenario, digest])
  }

  effectIt.live(
    "in two processes",
    () =>
      Effect.promise(async () => {
        const first = await digests(1)
        assert.lengthOf(first, scenarios.length)
        assert.deepStrictEqual(await digests(2), first)
      }),
    3 * minutes
  )
})
