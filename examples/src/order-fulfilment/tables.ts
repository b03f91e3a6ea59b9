/** The shop's own tables, beside those of Surety. Nothing here keeps an order from being reserved twice. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import type { Order } from "./topics.ts"

export const create = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`CREATE TABLE stock (product text PRIMARY KEY, available int NOT NULL)`
  yield* sql`CREATE TABLE reservation (order_id text NOT NULL, product text NOT NULL, quantity int NOT NULL)`
  yield* sql`CREATE TABLE page_view (path text PRIMARY KEY, views bigint NOT NULL)`
})

/** What a delivery of goods adds. */
export const deliver = Effect.fn("Tables.deliver")(function* (goods: ReadonlyMap<string, number>) {
  const sql = yield* SqlClient.SqlClient
  for (const [product, pieces] of goods) {
    yield* sql`INSERT INTO stock ${sql.insert({ product, available: pieces })}
      ON CONFLICT (product) DO UPDATE SET available = stock.available + excluded.available`
  }
})

export interface Balance {
  readonly product: string
  readonly available: number
  readonly reserved: number
}

/** What is left of each product, and what is reserved of it. */
export const balances = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  return yield* sql<Balance>`
    SELECT product, available, coalesce(sum(quantity), 0)::int AS reserved
    FROM stock LEFT JOIN reservation USING (product) GROUP BY product, available ORDER BY product`
})

/** The orders of the reservations: one as often as it was reserved. */
export const reserved = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  return yield* sql<{ readonly id: Order["id"] }>`SELECT order_id AS id FROM reservation`
}).pipe(Effect.map((rows) => rows.map(({ id }) => id)))

export const countedViews = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ readonly views: number }>`SELECT coalesce(sum(views), 0)::int AS views FROM page_view`
  return row!.views
})
