/** The PostgreSQL that is measured: embedded, with its default durability. */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as TestKafka from "@surety/testing/TestKafka"
import * as TestPostgres from "@surety/testing/TestPostgres"
import { Context, Effect, Layer, Schema } from "effect"
import * as Business from "./business.ts"
import type { Database } from "./system.ts"

/** `shared_buffers` as the server has it by default, which the one for tests lowers. */
const settings = { shared_buffers: "128MB" }

export const layer = TestPostgres.layerWith({ durable: true, settings })

/** The server does not keep what it acknowledges. */
export class NotDurable extends Schema.TaggedError<NotDurable>()("NotDurable", { settings: Schema.String }) {
  override get message(): string {
    return `The server is not durable, so that nothing measured on it would count: ${this.settings}.`
  }
}

/** Reads its settings, for the heading. Fails unless commits reach the disk. */
export const durability = Effect.scoped(
  Effect.gen(function* () {
    const { sql } = yield* createDatabase
    const [row] = yield* sql<{ version: string; fsync: string; full_page_writes: string; synchronous_commit: string }>`
      SELECT current_setting('server_version') AS version, current_setting('fsync') AS fsync,
        current_setting('full_page_writes') AS full_page_writes, current_setting('synchronous_commit') AS synchronous_commit`
    const { version, ...durable } = row!
    const shown = Object.entries(durable)
      .map(([name, value]) => `${name} ${value}`)
      .join(", ")
    if (Object.values(durable).some((value) => value !== "on")) return yield* new NotDurable({ settings: shown })
    return `PostgreSQL ${version}, ${shown}`
  })
)

/** A database for a system, dropped with the scope. */
export const createDatabase = Effect.gen(function* () {
  const { createDatabase } = yield* TestPostgres.TestPostgres
  const { url } = yield* createDatabase()
  const context = yield* Layer.build(PgClient.layer({ url, maxConnections: 2, applicationName: "bench" }))
  const sql = yield* Effect.provide(PgClient.PgClient, context)
  yield* Business.create(sql)
  return { url, sql } satisfies Database
})

/** A Kafka of one broker, which is gone with the scope. Returns where it is. */
export const startKafka = Effect.map(
  Layer.build(TestKafka.layerEmbedded),
  (context) => Context.get(context, TestKafka.TestKafka).bootstrapServers
)
