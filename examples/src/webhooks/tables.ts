/**
 * The tables that the workers write. No constraint on them keeps a delivery
 * from being applied twice: if it is, it shows.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export const create = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`CREATE TABLE activity (
    delivery_id text NOT NULL,
    subject text NOT NULL,
    event text NOT NULL,
    action text,
    sender text
  )`
  yield* sql`CREATE TABLE counter (
    subject text NOT NULL,
    event text NOT NULL,
    deliveries integer NOT NULL,
    PRIMARY KEY (subject, event)
  )`
})

/** How often each delivery was applied. */
export const applied = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  return yield* sql<{ readonly delivery: string; readonly times: number }>`
    SELECT delivery_id AS delivery, count(*)::int AS times FROM activity GROUP BY delivery_id`
})

export const counters = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  return yield* sql<{ readonly subject: string; readonly event: string; readonly deliveries: number }>`
    SELECT subject, event, deliveries FROM counter`
})
