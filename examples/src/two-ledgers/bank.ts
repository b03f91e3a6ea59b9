/** A bank: a database with its accounts, and nothing that keeps a transfer from being credited twice. */
import * as PgClient from "@effect/sql-pg/PgClient"
import { PgSchema } from "@surety/pg"
import * as TestPostgres from "@surety/testing/TestPostgres"
import { Context, Effect, Layer, Schedule } from "effect"

export const accounts = 10
export const initial = 1000

export const open = Effect.gen(function* () {
  const { url } = yield* Effect.flatMap(TestPostgres.TestPostgres, ({ createDatabase }) => createDatabase())
  const services = yield* Layer.build(Layer.fresh(PgSchema.layer.pipe(Layer.provideMerge(PgClient.layer({ url })))))
  const sql = Context.get(services, PgClient.PgClient)
  yield* sql`CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL)`
  yield* sql`CREATE TABLE credited (transfer text NOT NULL)`
  yield* sql`INSERT INTO account SELECT id, ${initial} FROM generate_series(0, ${accounts - 1}::int) AS id`
  const found = sql<{ readonly balance: number; readonly credits: number; readonly transfers: number }>`
    SELECT (SELECT sum(balance)::int FROM account) AS balance,
      count(*)::int AS credits, count(DISTINCT transfer)::int AS transfers FROM credited`
  const look = Effect.map(found, ([row]) => row!)
  return {
    url,
    services,
    sql,
    /** The money of all accounts, and what was credited. */
    look,
    /** Completes once so many transfers were credited. */
    untilCredited: (count: number) =>
      Effect.repeat(look, { until: ({ transfers }) => transfers >= count, schedule: Schedule.spaced("20 millis") })
  }
})
