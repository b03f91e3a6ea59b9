import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { AtLeastOnce, Consumer, ExactlyOnce, Producer, Topic } from "@surety/core"
import { PgInbox, PgOutbox, PgSchema, PgTransport } from "@surety/pg"
import { Config, Console, Effect, Layer, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { untilSettled } from "../support/untilSettled.ts"

const Payments = Topic.make("payments", {
  schema: Schema.Struct({ id: Schema.String, amount: Schema.Int }),
  guarantee: "exactly-once", // what publishing and consuming require, in the type of the program
  id: ({ id }) => id
})

const Ledger = Consumer.make(Payments, {
  group: "ledger",
  handler: Effect.fn("Ledger.apply")(function* ({ amount }) {
    const sql = yield* SqlClient.SqlClient
    yield* sql`UPDATE account SET balance = balance + ${amount}`
  })
}).pipe(Consumer.orDeadLetter, Consumer.layer)

// A part of what SuretyPg.layer is. Leave the inbox out, and it does not compile.
const Guarantees = ExactlyOnce.layer.pipe(
  Layer.provideMerge(AtLeastOnce.layer),
  Layer.provideMerge(Layer.mergeAll(PgTransport.layer, PgInbox.layer, PgOutbox.layer)),
  Layer.provide(PgSchema.layer)
)

const program = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`CREATE TABLE account AS SELECT 0 AS balance`
  for (const attempt of [1, 2, 3]) {
    const { state } = yield* Producer.publish(Payments, { id: "payment-1", amount: 5 })
    yield* Console.log(`published: ${state}, ${attempt}`)
  }
  yield* untilSettled(Payments, "ledger").pipe(Effect.provide(Ledger))
  yield* Console.log(yield* sql`SELECT balance FROM account`)
})

program.pipe(
  Effect.provide(Guarantees.pipe(Layer.provideMerge(PgClient.layerConfig({ url: Config.Redacted("DATABASE_URL") })))),
  NodeRuntime.runMain
)
