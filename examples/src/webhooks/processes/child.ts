/** What the child processes have in common. */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Cause, Config, Effect, Layer, Logger, References, Stdio, Stream } from "effect"
import * as Database from "../database.ts"

/** The database of `DATABASE_URL`. */
export const databaseLayer = Layer.unwrap(Effect.map(Config.Redacted("DATABASE_URL"), Database.layer))

/** Standard output carries the lines for the parent, so that the log goes to the other one. */
const loggerLayer = Layer.mergeAll(
  Logger.layer([Logger.withConsoleError(Logger.formatLogFmt)]),
  Layer.succeed(References.MinimumLogLevel, "Error")
)

/** Runs until the parent is gone, however it went: then standard input ends. */
export const runChild = <E>(effect: Effect.Effect<never, E>): void =>
  effect.pipe(
    Effect.raceFirst(Stdio.Stdio.use(({ stdin }) => Stream.runDrain(stdin))),
    Effect.tapCause((cause) => (Cause.hasInterruptsOnly(cause) ? Effect.void : Effect.logError(cause))),
    Effect.provide([NodeServices.layer, loggerLayer]),
    NodeRuntime.runMain({ disableErrorReporting: true })
  )
