/** Exactly-once: stock is reserved, and the shipment published, in the transaction of the order. */
import { Consumer, Producer } from "@surety/core"
import { Effect, Schedule, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { Orders, Shipments } from "./topics.ts"

class OutOfStock extends Schema.TaggedError<OutOfStock>()("OutOfStock", { product: Schema.String }) {}

export const Stock = Consumer.make(Orders, {
  group: "stock",
  concurrency: 4,
  handler: Effect.fn("Stock.reserve")(function* ({ depot, id, product, quantity }) {
    const sql = yield* SqlClient.SqlClient
    const taken = yield* sql`
      UPDATE stock SET available = available - ${quantity}
      WHERE product = ${product} AND available >= ${quantity} RETURNING product`
    if (taken.length === 0) return yield* new OutOfStock({ product })
    yield* sql`INSERT INTO reservation ${sql.insert({ order_id: id, product, quantity })}`
    yield* Producer.publish(Shipments, { order: id, depot }) // leaves if and only if the stock is reserved
  })
}).pipe(
  Consumer.deadLetter("OutOfStock"), // until there is stock again
  Consumer.retry(Schedule.exponential("50 millis").pipe(Schedule.jittered, Schedule.upTo({ times: 5 }))),
  Consumer.orDeadLetter
)
