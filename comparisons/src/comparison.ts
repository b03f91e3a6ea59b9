/** A program that is run on several libraries, and what has to hold at its end. */
import { readFileSync } from "node:fs"
import { findPackageJSON } from "node:module"
import * as TestPostgres from "@surety/testing/TestPostgres"
import { Effect, type Redacted, type Scope } from "effect"

/** What was counted, by name. */
export type Counts = Readonly<Record<string, number>>

export interface Contestant {
  readonly system: string
  readonly version: string
  readonly ours: boolean
  /** Runs the program on a database of its own. */
  readonly run: (url: Redacted.Redacted) => Effect.Effect<Counts, unknown, Scope.Scope>
}

export interface Comparison {
  readonly name: string
  /** What happens in the program. */
  readonly about: string
  /** What is to be counted at its end. */
  readonly expected: Counts
  readonly contestants: ReadonlyArray<Contestant>
}

export interface Result {
  readonly system: string
  readonly version: string
  readonly ours: boolean
  readonly counts: Counts
}

export interface Outcome {
  readonly comparison: Pick<Comparison, "name" | "about" | "expected">
  readonly results: ReadonlyArray<Result>
}

/** Runs one contestant after the other. */
export const run = Effect.fnUntraced(function* (comparison: Comparison) {
  const { createDatabase } = yield* TestPostgres.TestPostgres
  const results = yield* Effect.forEach(comparison.contestants, ({ run, ...contestant }) =>
    createDatabase().pipe(
      Effect.flatMap(({ url }) => run(url)),
      Effect.map((counts): Result => ({ ...contestant, counts })),
      Effect.scoped
    )
  )
  return { comparison, results } satisfies Outcome
})

/** The version of a package, as it is installed for a file. */
export const versionOf = (name: string, from: string): string =>
  JSON.parse(readFileSync(findPackageJSON(name, from)!, "utf8")).version
