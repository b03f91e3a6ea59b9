import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Consumer, Producer, Topic } from "@surety/core"
import { SuretyPg } from "@surety/pg"
import { Config, Effect, Layer, Schema } from "effect"
import { SqlClient } from "effect/sql"

const Payment = Schema.Struct({ id: Schema.String, account: Schema.String, amount: Schema.Int })
const Payments = Topic.make("payments", { schema: Payment, guarantee: "exactly-once", id: ({ id }) => id })
const Receipts = Topic.make("receipts", {
  schema: Schema.Struct({ payment: Schema.String }),
  guarantee: "exactly-once"
})

const Ledger = Consumer.make(Payments, {
  group: "ledger",
  handler: Effect.fn("Ledger.apply")(function* (payment) {
    const sql = yield* SqlClient.SqlClient // in the message's transaction
    yield* sql`UPDATE account SET balance = balance + ${payment.amount} WHERE id = ${payment.account}`
    yield* Producer.publish(Receipts, { payment: payment.id }) // leaves if and only if that commits
  })
}).pipe(Consumer.orDeadLetter, Consumer.layer)

const Database = PgClient.layerConfig({ url: Config.Redacted("DATABASE_URL") })

Ledger.pipe(Layer.provide(SuretyPg.layer), Layer.provide(Database), Layer.launch, NodeRuntime.runMain)
