/**
 * `it.simulate`: a simulation as a test of Vitest.
 *
 * **Example**
 *
 * ```ts
 * import { it } from "@surety/testing/SimulationTest"
 *
 * it.simulate("the ledger balances", Ledger, { workload, expect: balanced, runs: 500 })
 * ```
 *
 * A test that fails says the seed, what was violated, the faults that are
 * needed for it, and everything that happened; and where it has written a page
 * that shows the same.
 *
 * `SURETY_SEED` runs a single seed instead, `SURETY_RUNS` so many.
 *
 * @since 0.1.0
 */
import { mkdtempSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import process from "node:process"
import * as Vitest from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Simulation from "./Simulation.ts"

/**
 * What a test may say beside what a simulation needs.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options extends Simulation.Options {
  /** How long the test may take, in real time. Default 60 seconds. */
  readonly timeout?: Duration.Input | undefined
}

const number = (name: string): number | undefined => {
  const value = process.env[name]
  return value === undefined || value === "" ? undefined : Number(value)
}

const simulate = (name: string, app: Simulation.App, options: Options): void => {
  const { timeout, ...others } = options
  Vitest.it.live(
    name,
    () => {
      const seed = number("SURETY_SEED")
      const runs = seed === undefined ? number("SURETY_RUNS") : 1
      return Simulation.check(app, {
        replay: (seed) => `SURETY_SEED=${seed} npx vitest run -t ${JSON.stringify(name)}`,
        ...others,
        ...(seed === undefined ? {} : { seed, corpus: [] }),
        ...(runs === undefined ? {} : { runs })
      }).pipe(
        Effect.catch((failed) => {
          const page = join(mkdtempSync(join(tmpdir(), "surety-simulation-")), `seed-${failed.seed}.html`)
          writeFileSync(page, failed.html)
          return Effect.die(new Error(`${failed.message}\n\nas a page: ${page}`))
        })
      )
    },
    Duration.toMillis(Duration.fromInputUnsafe(timeout ?? "60 seconds"))
  )
}

/**
 * The `it` of `@effect/vitest`, with `simulate`.
 *
 * @category testing
 * @since 0.1.0
 */
export const it: typeof Vitest.it & {
  /** Registers a test that checks an app over many seeds. */
  readonly simulate: (name: string, app: Simulation.App, options: Options) => void
} = new Proxy(Vitest.it as any, {
  get: (target, property, receiver) => (property === "simulate" ? simulate : Reflect.get(target, property, receiver))
})
