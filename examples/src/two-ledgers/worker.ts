/**
 * A worker process: sends what the first bank has committed to Kafka, and credits
 * what comes from there at the second one. Killed, it leaves both to the others.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import * as PgClient from "@effect/sql-pg/PgClient"
import { AtLeastOnce, Consumer, ExactlyOnce } from "@surety/core"
import { KafkaTransport } from "@surety/kafka"
import { PgInbox, PgOutbox, PgSchema } from "@surety/pg"
import { Config, Effect, Layer, Logger, References, Stdio, Stream } from "effect"
import { layerClient } from "../support/kafka.ts"
import { creditOf, transfersOf } from "./transfers.ts"

const bank = (variable: string) =>
  PgSchema.layerWith({ lease: "2 seconds" }).pipe(
    Layer.provideMerge(PgClient.layerConfig({ url: Config.Redacted(variable) })),
    Layer.fresh
  )

const Kafka = KafkaTransport.layer({ acks: "all" }).pipe(
  Layer.provide(Layer.unwrap(Effect.map(Config.String("KAFKA_BOOTSTRAP_SERVERS"), layerClient)))
)

/** Database to Kafka. */
const Relay = PgOutbox.layerRelay().pipe(Layer.provide(bank("FIRST_BANK")))

/** Kafka to database. */
const Credit = Layer.unwrap(Effect.map(Config.String("RUN"), (run) => Consumer.layer(creditOf(transfersOf(run))))).pipe(
  Layer.provide(ExactlyOnce.layer),
  Layer.provide(AtLeastOnce.layer),
  Layer.provide([PgInbox.layer, PgOutbox.layer]),
  Layer.provide(bank("SECOND_BANK"))
)

/** It ends with its parent, however that went: then standard input ends. */
const parentGone = Stdio.Stdio.use(({ stdin }) => Stream.runDrain(stdin))

Layer.mergeAll(Relay, Credit).pipe(
  Layer.provide(Kafka),
  Layer.launch,
  Effect.raceFirst(parentGone),
  Effect.provide([NodeServices.layer, Logger.layer([Logger.withConsoleError(Logger.formatLogFmt)])]),
  Effect.provideService(References.MinimumLogLevel, "Error"),
  NodeRuntime.runMain
)
