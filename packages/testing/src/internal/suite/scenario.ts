import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Harness } from "./harness.ts"
import type { Guaranteed } from "./model.ts"

/** One test of the suite. */
export interface Scenario {
  readonly name: string
  /** Skipped where the transport has no transactions. */
  readonly needsTransactions?: boolean
  /** Skipped where the backend has no store that crashes. */
  readonly needsCrash?: boolean
  readonly run: (harness: Harness) => Effect.Effect<unknown, unknown, Scope.Scope>
}

/** Adjusts what a scenario asserts to the guarantee it runs under. */
export const forEach = (
  guarantees: ReadonlyArray<Guaranteed>,
  name: string,
  run: (harness: Harness, guarantee: Guaranteed) => Effect.Effect<unknown, unknown, Scope.Scope>
): ReadonlyArray<Scenario> =>
  guarantees.map((guarantee) => ({
    name: `${guarantee}: ${name}`,
    needsTransactions: guarantee === "exactly-once",
    run: (harness) => run(harness, guarantee)
  }))

export const all: ReadonlyArray<Guaranteed> = ["at-most-once", "at-least-once", "exactly-once"]

/** Those under which nothing is lost. */
export const lossless: ReadonlyArray<Guaranteed> = ["at-least-once", "exactly-once"]
