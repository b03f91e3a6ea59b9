/**
 * A worker process. SIGTERM ends it in order: it claims nothing more, finishes
 * what runs, and gives its partitions back at once. SIGKILL is survived as well:
 * its partitions go on elsewhere once their leases have expired.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as SuretyPg from "@surety/pg/SuretyPg"
import { Config, Effect, Layer, Logger, References, Stdio, Stream } from "effect"
import { FetchHttpClient } from "effect/http"
import { Consumers } from "./app.ts"
import { Carrier } from "./carrier.ts"

const CarrierLive = Layer.unwrap(Effect.map(Config.String("CARRIER_URL"), Carrier.layer)).pipe(
  Layer.provide(FetchHttpClient.layer)
)
const SuretyLive = Layer.unwrap(
  Effect.map(Config.Duration("LEASE").pipe(Config.withDefault("15 seconds")), (lease) => SuretyPg.layerWith({ lease }))
)
const DatabaseLive = PgClient.layerConfig({ url: Config.Redacted("DATABASE_URL") })

/** It ends with its parent, however that went: then standard input ends. */
const parentGone = Stdio.Stdio.use(({ stdin }) => Stream.runDrain(stdin))

Consumers.pipe(
  Layer.provide([SuretyLive, CarrierLive]),
  Layer.provide(DatabaseLive),
  Layer.launch,
  Effect.raceFirst(parentGone),
  Effect.provide([NodeServices.layer, Logger.layer([Logger.withConsoleError(Logger.formatLogFmt)])]),
  Effect.provideService(References.MinimumLogLevel, "Error"), // dead letters are warnings, and in the report
  NodeRuntime.runMain
)
