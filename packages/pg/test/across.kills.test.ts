/** Database to database through another system, under kills of the workers in between: money is neither lost nor made. */
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import { Producer } from "@surety/core"
import * as PgSchema from "@surety/pg/PgSchema"
import * as PgTransport from "@surety/pg/PgTransport"
import * as SuretyPg from "@surety/pg/SuretyPg"
import * as TestPostgres from "@surety/testing/TestPostgres"
import { Context, Effect, Layer, Random, Redacted, References } from "effect"
import { type BankUrls, bankTables, Transfers } from "./support/banks.ts"
import { until } from "./support/nodes.ts"
import { startProgram } from "./support/workers.ts"

const accounts = 10
const initial = 10_000
const transfers = 300
const kills = 6

const bank = Effect.gen(function* () {
  const { createDatabase } = yield* TestPostgres.TestPostgres
  const { url } = yield* createDatabase()
  const context = yield* Layer.build(
    PgSchema.layer.pipe(Layer.provideMerge(PgClient.layer({ url, maxConnections: 4 })), Layer.fresh)
  )
  const sql = Context.get(context, PgClient.PgClient)
  for (const table of bankTables) yield* sql.unsafe(table)
  yield* sql`INSERT INTO account SELECT id, ${initial} FROM generate_series(0, ${accounts - 1}) AS id`
  const count = (text: string) =>
    Effect.map(sql.unsafe<{ count: number }>(text).withoutTransform, ([row]) => row!.count)
  return {
    url,
    context,
    sql,
    credited: count("SELECT count(*)::integer AS count FROM credited"),
    distinct: count("SELECT count(DISTINCT id)::integer AS count FROM credited"),
    balance: count("SELECT sum(balance)::integer AS count FROM account")
  }
})

describe("database to database, through another system", () => {
  it.live(
    "the ledgers balance, whoever is killed in between",
    () =>
      Effect.gen(function* () {
        const here = yield* bank
        const there = yield* bank
        const broker = yield* bank
        const urls: BankUrls = {
          here: Redacted.value(here.url),
          broker: Redacted.value(broker.url),
          there: Redacted.value(there.url)
        }
        const worker = startProgram("acrossWorker", urls)
        const workers = [yield* worker, yield* worker]

        // Debits, in the first bank's transactions, of a process that does not send itself.
        const live = SuretyPg.layerAcross({ send: false, name: "postgresql" }).pipe(
          Layer.provide(PgTransport.layer.pipe(Layer.provide(Layer.succeedContext(broker.context)))),
          Layer.provide(Layer.succeedContext(here.context))
        )
        const debit = (index: number) =>
          Effect.gen(function* () {
            const from = yield* Random.nextIntBetween(0, accounts - 1)
            const to = yield* Random.nextIntBetween(0, accounts - 1)
            const amount = yield* Random.nextIntBetween(1, 20)
            yield* here.sql`UPDATE account SET balance = balance - ${amount} WHERE id = ${from}`
            yield* Producer.publish(Transfers, { id: `transfer-${index}`, from, to, amount })
            // Some are thought better of.
            if (index % 10 === 9) return yield* Effect.fail("changed my mind" as const)
          }).pipe(
            here.sql.withTransaction,
            Effect.catchIf(
              (error) => error === "changed my mind",
              () => Effect.void
            )
          )
        const expected = transfers - transfers / 10
        const debits = Effect.forEach(
          Array.from({ length: transfers }, (_, index) => index),
          debit,
          { discard: true }
        ).pipe(Effect.provide(live))

        const killing = Effect.gen(function* () {
          for (let kill = 1; kill <= kills; kill++) {
            const threshold = Math.floor((expected * kill) / (kills + 1))
            yield* until(
              `${threshold} are credited`,
              Effect.map(there.credited, (count) => count >= threshold)
            )
            const victim = workers.shift()!
            yield* victim.signal("SIGKILL")
            workers.push(yield* worker)
          }
        })
        yield* Effect.all([debits, killing], { concurrency: 2 })
        yield* until(
          "all are credited",
          Effect.map(there.distinct, (count) => count === expected)
        )
        assert.strictEqual(yield* there.credited, expected)
        assert.strictEqual((yield* here.balance) + (yield* there.balance), 2 * accounts * initial)
        assert.isBelow(yield* here.balance, accounts * initial)
      }).pipe(
        Effect.scoped,
        Effect.provide(TestPostgres.layer),
        Effect.provideService(References.MinimumLogLevel, "Error")
      ),
    120_000
  )
})
