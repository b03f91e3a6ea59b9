/** What the child processes have in common. */
import { NodeRuntime } from "@effect/platform-node"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as TestProcess from "@surety/testing/TestProcess"
import { Cause, Config, Effect, Layer, Logger, References } from "effect"
import type * as SqlClient from "effect/sql/SqlClient"
import type { Role, Services } from "../transport.ts"
import { names, transports } from "../transports/index.ts"

/** Layers that cannot be built while the server is away, or errors of a consumer: the parent starts another process. */
const layer = (role: Role) =>
  Layer.unwrap(
    Effect.gen(function* () {
      const url = yield* Config.Redacted("DATABASE_URL")
      const transport = transports[yield* Config.Literals(names, "CHAOS_TRANSPORT")]
      return transport
        .layer(role, process.env)
        .pipe(Layer.provideMerge(PgClient.layer({ url, applicationName: "app" })))
    })
  )

const loggerLayer = Layer.mergeAll(
  Logger.layer([Logger.withConsoleError(Logger.formatLogFmt)]),
  Layer.succeed(References.MinimumLogLevel, "Fatal")
)

/** Runs until it is stopped, or its parent is gone. */
export const runChild = <E>(
  role: Role,
  effect: Effect.Effect<unknown, E, Services | PgClient.PgClient | SqlClient.SqlClient>
): void =>
  Effect.andThen(TestProcess.endWithParent, effect).pipe(
    Effect.tapCause((cause) => (Cause.hasDies(cause) ? Effect.logFatal(cause) : Effect.void)),
    Effect.provide(layer(role)),
    Effect.provide(loggerLayer),
    NodeRuntime.runMain({ disableErrorReporting: true })
  )
