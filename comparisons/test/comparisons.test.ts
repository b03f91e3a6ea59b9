/** What needs no library that is not installed: the zombie on both systems, ours under concurrent appends, and the table. */
import { assert, describe, it } from "@effect/vitest"
import * as TestPostgres from "@surety/testing/TestPostgres"
import { Effect, References } from "effect"
import { expected } from "../src/appends/load.ts"
import * as Surety from "../src/appends/surety.ts"
import { type Outcome, run } from "../src/comparison.ts"
import * as Report from "../src/report.ts"
import { zombie } from "../src/zombie/index.ts"

const onServer = <A, E, R>(body: Effect.Effect<A, E, R>) =>
  body.pipe(Effect.provide(TestPostgres.layer), Effect.provideService(References.MinimumLogLevel, "Fatal"))

describe("comparisons", () => {
  it.live("a zombie commits on PersistedQueue in a transaction, and is refused by ours", () =>
    Effect.gen(function* () {
      const outcome = yield* run(zombie)
      assert.deepStrictEqual(
        outcome.results.map(({ counts }) => Object.values(counts)),
        [
          [1, 1],
          [1, 0]
        ]
      )
      assert.isFalse(Report.violated([outcome]))
      assert.match(Report.text([outcome]), /PersistedQueue.* not as expected\n {2}Surety.* as expected$/)
    }).pipe(onServer)
  )

  it.live("ours reads what is appended at once", () =>
    Effect.gen(function* () {
      const { createDatabase } = yield* TestPostgres.TestPostgres
      const { url } = yield* createDatabase()
      assert.deepStrictEqual(yield* Surety.run(url), expected)
    }).pipe(Effect.scoped, onServer)
  )

  it("ends with an error where ours is not as expected, and only there", () => {
    const outcome = (ours: boolean): Outcome => ({
      comparison: { name: "n", about: "a", expected: { lost: 0 } },
      results: [{ system: "s", version: "1", ours, counts: { lost: 1 } }]
    })
    assert.isTrue(Report.violated([outcome(false), outcome(true)]))
    assert.isFalse(Report.violated([outcome(false)]))
  })
})
