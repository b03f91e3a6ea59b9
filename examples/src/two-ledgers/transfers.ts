/** Money on its way from one bank to another, each with a database of its own, and Kafka between them. */
import { Consumer, Topic } from "@surety/core"
import { Effect, Schema } from "effect"
import { SqlClient } from "effect/sql"

export const group = "credit"

/** A topic of the run's own, so that the two ledgers can be compared in the end. */
export const transfersOf = (run: string) =>
  Topic.make(`transfers-${run}`, {
    schema: Schema.Struct({ id: Schema.String, from: Schema.Int, to: Schema.Int, amount: Schema.Int }),
    guarantee: "exactly-once",
    id: (transfer) => transfer.id,
    key: (transfer) => String(transfer.to), // what one account receives is credited in order
    partitions: 4
  })
export type Transfers = ReturnType<typeof transfersOf>

/** In the second bank. Its statements, the id of the transfer, and how far the group has come, commit together. */
export const creditOf = (transfers: Transfers) =>
  Consumer.make(transfers, {
    group,
    concurrency: 4,
    handler: Effect.fn("Bank.credit")(function* ({ amount, id, to }) {
      const sql = yield* SqlClient.SqlClient
      yield* sql`INSERT INTO credited ${sql.insert({ transfer: id })}`
      yield* sql`UPDATE account SET balance = balance + ${amount} WHERE id = ${to}`
    })
  }).pipe(Consumer.orDeadLetter)
