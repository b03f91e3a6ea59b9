/** The ledger: tables without any constraint that would hide a mistake, and what they show. */
import * as PgClient from "@effect/sql-pg/PgClient"
import { Effect, Schedule } from "effect"
import { idOf } from "./messages.ts"

export const create = (accounts: number) =>
  Effect.gen(function* () {
    const sql = yield* PgClient.PgClient
    yield* sql`CREATE TABLE account (id integer PRIMARY KEY, balance bigint NOT NULL DEFAULT 0)`
    yield* sql`INSERT INTO account (id) SELECT generate_series(0, ${accounts - 1}::integer)`
    yield* sql`CREATE TABLE booking (place bigserial, account integer NOT NULL, n integer NOT NULL, amount integer NOT NULL)`
    yield* sql`CREATE INDEX ON booking (account, place) INCLUDE (n)`
  })

interface Numbered {
  readonly account: number
  readonly n: number
}

/** What can be seen at any time, in one snapshot: a message's transaction is in it as a whole, or not at all. */
export const look = Effect.gen(function* () {
  const sql = yield* PgClient.PgClient
  return yield* sql
    .withTransaction(
      Effect.gen(function* () {
        yield* sql`SET TRANSACTION ISOLATION LEVEL REPEATABLE READ`
        const twice = yield* sql<Numbered>`SELECT account, n FROM booking GROUP BY account, n HAVING count(*) > 1`
        const disordered = yield* sql<Numbered>`
          SELECT account, n FROM (
            SELECT account, n, max(n) OVER (PARTITION BY account ORDER BY place
              ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before FROM booking
          ) b WHERE n < before`
        const unbalanced = yield* sql<{ id: number }>`
          SELECT a.id FROM account a LEFT JOIN booking b ON b.account = a.id
          GROUP BY a.id HAVING a.balance <> coalesce(sum(b.amount), 0)`
        return {
          twice: twice.map(idOf),
          disordered: disordered.map(idOf),
          unbalanced: unbalanced.map(({ id }) => `${id}`)
        }
      })
    )
    .pipe(persistently)
})

/** How often each entry was booked. */
export const booked = Effect.gen(function* () {
  const sql = yield* PgClient.PgClient
  const rows = yield* sql<Numbered & { readonly times: number }>`
    SELECT account, n, count(*)::integer AS times FROM booking GROUP BY account, n`
  return new Map(rows.map((row) => [idOf(row), row.times]))
})

/** The server may be away just now. A transaction whose ROLLBACK is lost is a defect of the client's. */
export const persistently = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, unknown, R> =>
  Effect.retry(
    Effect.catchDefect(effect, (defect) => Effect.fail(defect)),
    Schedule.spaced("200 millis").pipe(Schedule.upTo({ duration: "1 minute" }))
  )
