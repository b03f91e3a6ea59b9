/** Processes that have a real Kafka, and a database of the test's own beside it. */
import * as PgClient from "@effect/sql-pg/PgClient"
import { AtLeastOnce, Transport } from "@surety/core"
import * as KafkaClient from "@surety/kafka/KafkaClient"
import * as KafkaTransport from "@surety/kafka/KafkaTransport"
import type * as PgOutbox from "@surety/pg/PgOutbox"
import * as PgSchema from "@surety/pg/PgSchema"
import * as SuretyPg from "@surety/pg/SuretyPg"
import * as TestPostgres from "@surety/testing/TestPostgres"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import { readAll } from "../../src/internal/log.ts"
import { layerClient } from "./node.ts"

export type Target = Transport.Transport["Service"]

export interface Options {
  readonly url: Redacted.Redacted
  readonly kafka?: Partial<KafkaClient.Options> | undefined
  readonly relay?: PgOutbox.RelayOptions | undefined
  readonly lease?: PgSchema.Options["lease"]
  /** What the relay sees of Kafka. */
  readonly seen?: ((kafka: Target) => Target) | undefined
}

/** A database, with a table for the effects of handlers, which no constraint keeps from being doubled. */
export const database = Effect.gen(function* () {
  const { url } = yield* Effect.flatMap(TestPostgres.TestPostgres, ({ createDatabase }) => createDatabase())
  const observer = yield* Layer.build(
    Layer.fresh(PgClient.layer({ url, applicationName: "observer", maxConnections: 2 }))
  )
  const sql = Context.get(observer, PgClient.PgClient)
  yield* sql`CREATE TABLE effect (place bigserial, id text NOT NULL)`
  const strings = (text: string, ...params: ReadonlyArray<unknown>) =>
    Effect.map(sql.unsafe<{ value: string }>(text, params), (rows) => rows.map(({ value }) => value))
  return { url, sql, strings, effects: strings("SELECT id AS value FROM effect ORDER BY place") }
})

export type Database = Effect.Success<typeof database>

/** The effect of a handler, in its transaction. */
export const effect = (id: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) => Effect.orDie(sql`INSERT INTO effect (id) VALUES (${id})`))

/** A process, until the scope closes: everything that is published goes through the outbox and its relay. */
export const startAcross = Effect.fnUntraced(function* ({ kafka, lease, relay, seen, url }: Options) {
  const client = yield* Layer.build(Layer.fresh(layerClient(kafka)))
  const transport = yield* Layer.build(Layer.fresh(KafkaTransport.layer({ acks: "all", linger: 0 }))).pipe(
    Effect.provideContext(client)
  )
  const atKafka = Context.get(transport, Transport.Transport)
  const direct = yield* Layer.build(Layer.fresh(AtLeastOnce.layer)).pipe(Effect.provideContext(transport))
  const context = yield* Layer.build(
    Layer.fresh(
      SuretyPg.layerAcross(relay).pipe(
        Layer.provideMerge(PgSchema.layerWith({ pollInterval: "100 millis", lease })),
        Layer.provideMerge(PgClient.layer({ url, applicationName: "app" }))
      )
    )
  ).pipe(Effect.provideContext(Context.add(transport, Transport.Transport, seen?.(atKafka) ?? atKafka)))
  return {
    /** The services of the composition. */
    run: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.provideContext(effect, context),
    /** Those of Kafka alone: as a program would publish that has no database. */
    atKafka: <A, E, R>(effect: Effect.Effect<A, E, R>) =>
      Effect.provideContext(effect, Context.merge(client, Context.merge(transport, direct)))
  }
})

export type Node = Effect.Success<ReturnType<typeof startAcross>>

/** The ids that a topic of one partition holds, for readers of committed records. */
export const holds = (topic: string) =>
  Effect.gen(function* () {
    const ids: Array<string> = []
    yield* readAll(yield* KafkaClient.KafkaClient, topic, ({ headers }) => {
      for (const header of headers ?? []) if ("surety-id" in header) ids.push(`${header["surety-id"]}`)
    })
    return ids
  })
