/** In-memory backends that lack a protection, and what the suite finds then. */
import { assert, it } from "@effect/vitest"
import * as TransportTest from "@surety/testing/TransportTest"
import { Effect } from "effect"
import { partsWithout, type Without } from "../../src/internal/without.ts"

/** The in-memory backend, with some operations of its services replaced. */
export const without = (missing: Without) => TransportTest.memory({ parts: partsWithout(missing) })

/** Without this protection, the scenario finds these invariants violated. */
export const finds = (title: string, invariants: ReadonlyArray<number>, scenario: string, missing: Without) =>
  it.effect(`${title}: invariant ${invariants.join(" and ")}`, () => {
    const backend = without(missing)
    return Effect.gen(function* () {
      const found = yield* TransportTest.violated(backend, scenario, { tries: 4_000 })
      for (const invariant of invariants) {
        assert.isTrue(
          found.has(invariant),
          `${invariant} is not among the violated ones: ${Array.from(found).join(", ")}`
        )
      }
    }).pipe(Effect.provide(backend.store))
  })
