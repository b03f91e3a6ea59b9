/** The tables of the user whose program is measured: what handlers write to, and what shows a message applied twice. */
import type { PgClient } from "@effect/sql-pg/PgClient"
import { Effect } from "effect"
import { accounts, type Message } from "./message.ts"
import { until } from "./timing.ts"

export const create = Effect.fnUntraced(function* (sql: PgClient) {
  yield* sql`CREATE TABLE account (id integer PRIMARY KEY, applied bigint NOT NULL DEFAULT 0, total bigint NOT NULL DEFAULT 0)`
  yield* sql`CREATE TABLE purchase (seq integer PRIMARY KEY, account integer NOT NULL)`
})

export const reset = Effect.fnUntraced(function* (sql: PgClient) {
  yield* sql`TRUNCATE account, purchase`
  yield* sql`INSERT INTO account (id) SELECT generate_series(0, ${accounts - 1}::integer)`
})

/** Waits until so many messages were applied, each time that one was. */
export const untilApplied = (sql: PgClient, count: number) =>
  until(Effect.map(sql<{ n: number }>`SELECT sum(applied)::integer AS n FROM account`, ([row]) => row!.n >= count))

/** The accounts on which something is missing, or was applied twice. */
export const wrongAccounts = Effect.fnUntraced(function* (sql: PgClient, messages: ReadonlyArray<Message>) {
  const expected = new Map<number, { applied: number; total: number }>()
  for (const { account, seq } of messages) {
    const sum = expected.get(account) ?? { applied: 0, total: 0 }
    expected.set(account, { applied: sum.applied + 1, total: sum.total + seq })
  }
  const rows = yield* sql<{
    id: number
    applied: number
    total: number
  }>`SELECT id, applied::integer, total::float8 FROM account ORDER BY id`
  return rows.filter(
    ({ applied, id, total }) => applied !== (expected.get(id)?.applied ?? 0) || total !== (expected.get(id)?.total ?? 0)
  )
})

/** What the measured handlers do, with the account and the `seq` of a message. */
export const applyOne = "UPDATE account SET applied = applied + 1, total = total + $2 WHERE id = $1"

/** The same for the accounts and `seq`s of a batch. */
export const applyBatch = `UPDATE account a SET applied = a.applied + s.applied, total = a.total + s.total
  FROM (
    SELECT m.account, count(*) AS applied, sum(m.seq) AS total
    FROM unnest($1::integer[], $2::integer[]) AS m(account, seq) GROUP BY m.account ORDER BY m.account
  ) AS s WHERE a.id = s.account`

/** What is stored in the transaction that publishes a message. */
export const purchase = "INSERT INTO purchase (seq, account) VALUES ($1, $2)"
