/**
 * Exactly-once: payments, in a double-entry ledger on PostgreSQL. A payment that
 * is published twice, or whose worker dies in the middle, is booked once: its
 * entries, its receipt and the note that it is settled commit together.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Consumer, Producer, Topic } from "@surety/core"
import * as SuretyPg from "@surety/pg/SuretyPg"
import * as TestPostgres from "@surety/testing/TestPostgres"
import { Console, Effect, Layer, Schedule, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { untilSettled } from "./support/untilSettled.ts"

export const Payments = Topic.make("payments", {
  schema: Schema.Struct({ id: Schema.String, from: Schema.String, to: Schema.String, cents: Schema.Int }),
  guarantee: "exactly-once",
  id: (payment) => payment.id,
  key: (payment) => payment.from
})

export const Receipts = Topic.make("receipts", {
  schema: Schema.Struct({ payment: Schema.String }),
  guarantee: "exactly-once"
})

class UnknownAccount extends Schema.TaggedError<UnknownAccount>()("UnknownAccount", {}) {}

export const ledger = Consumer.make(Payments, {
  group: "ledger",
  concurrency: 4,
  handler: Effect.fn("Ledger.book")(function* ({ cents, from, id, to }) {
    const sql = yield* SqlClient.SqlClient // its statements are in the message's transaction
    const known = yield* sql`SELECT name FROM account WHERE name IN ${sql.in([from, to])}`
    if (known.length < 2) return yield* new UnknownAccount()
    yield* sql`INSERT INTO entry ${sql.insert([
      { payment: id, account: from, cents: -cents },
      { payment: id, account: to, cents }
    ])}`
    yield* Producer.publish(Receipts, { payment: id }) // leaves if and only if the transaction commits
  })
}).pipe(
  Consumer.deadLetter("UnknownAccount"),
  Consumer.retry(Schedule.exponential("50 millis").pipe(Schedule.jittered, Schedule.upTo({ times: 5 }))),
  Consumer.orDeadLetter
)

/** Nothing here keeps a payment from being booked twice. */
export const createTables = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`CREATE TABLE account (name text PRIMARY KEY)`
  yield* sql`CREATE TABLE entry (payment text NOT NULL, account text NOT NULL REFERENCES account, cents int NOT NULL)`
  yield* sql`INSERT INTO account (name) VALUES ('ada'), ('grace'), ('alan')`
})

/** The balance of each account, and of all together, which must be zero. */
export const balances = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  return yield* sql<{ readonly account: string; readonly cents: number }>`
    SELECT coalesce(account, 'all together') AS account, sum(cents)::int AS cents
    FROM entry GROUP BY ROLLUP (account) ORDER BY entry.account`
})

export const program = Effect.gen(function* () {
  yield* createTables
  const payment = { id: "payment-1", from: "ada", to: "grace", cents: 2500 }
  yield* Producer.publishAll(Payments, [payment, payment, { id: "payment-2", from: "grace", to: "alan", cents: 700 }])
  yield* untilSettled(Payments, "ledger").pipe(Effect.provide(Consumer.layer(ledger)))
  return yield* balances
}).pipe(Effect.provide(SuretyPg.layer))

if (import.meta.main) {
  program.pipe(
    Effect.flatMap((rows) => Console.table(rows)),
    Effect.provide(TestPostgres.layerClient.pipe(Layer.provide(TestPostgres.layer))), // PgClient.layer, in an app
    NodeRuntime.runMain
  )
}
