import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, it } from "@effect/vitest"
import { Consumer, DeadLetters, Producer } from "@surety/core"
import * as SuretyPg from "@surety/pg/SuretyPg"
import * as TestPostgres from "@surety/testing/TestPostgres"
import { Effect, Fiber, Layer, Redacted, References, Schedule, Stream } from "effect"
import { SqlClient } from "effect/sql"
import * as Example from "../src/exactly-once-payments.ts"
import { untilSettled } from "../src/support/untilSettled.ts"
import { start } from "./support/program.ts"

const accounts = ["ada", "grace", "alan"]

/** Payments between all accounts. One in a hundred is to an account that does not exist. */
const payments = Array.from({ length: 1200 }, (_, i) => ({
  id: `payment-${i}`,
  from: accounts[i % 3]!,
  to: i % 100 === 99 ? "nobody" : accounts[(i + 1 + (i % 2)) % 3]!,
  cents: i + 1
}))
const possible = payments.filter(({ to }) => to !== "nobody")
const impossible = payments.filter(({ to }) => to === "nobody")

const again = Schedule.spaced("20 millis")

/** Publishes all of them, each twice, a few at a time. */
const publishAll = Effect.forEach(
  Array.from({ length: payments.length / 20 }, (_, i) => payments.slice(i * 20, i * 20 + 20)),
  (some) => Effect.andThen(Producer.publishAll(Example.Payments, some), Producer.publishAll(Example.Payments, some)),
  { discard: true }
)

/** Receipts by payment, each message counted once, however often it is read. */
const readReceipts = Effect.gen(function* () {
  const found = new Map<string, string>()
  const reader = Consumer.make(Example.Receipts, {
    group: "test",
    handler: ({ payment }, { offset, partition }) => Effect.sync(() => found.set(`${partition}/${offset}`, payment))
  })
  yield* Effect.provide(untilSettled(Example.Receipts, "test"), Consumer.layer(reader))
  return Array.from(found.values()).sort()
})

const expectedBalance = (account: string) =>
  possible.reduce((sum, { cents, from, to }) => sum + (to === account ? cents : 0) - (from === account ? cents : 0), 0)

/** Every payment that is possible was booked once, with one receipt; every other is one dead letter. */
const checkBooks = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  assert.deepStrictEqual(yield* Example.balances, [
    ...accounts.toSorted().map((account) => ({ account, cents: expectedBalance(account) })),
    { account: "all together", cents: 0 }
  ])
  const booked = yield* sql<{ payment: string; entries: number; sum: number }>`
    SELECT payment, count(*)::int AS entries, sum(cents)::int AS sum FROM entry GROUP BY payment`
  assert.deepStrictEqual(
    booked.toSorted((a, b) => (a.payment < b.payment ? -1 : 1)),
    possible.map(({ id }) => ({ payment: id, entries: 2, sum: 0 })).sort((a, b) => (a.payment < b.payment ? -1 : 1))
  )
  assert.deepStrictEqual(yield* readReceipts, possible.map(({ id }) => id).sort())
  const deadLetters = yield* Stream.runCollect((yield* DeadLetters.DeadLetters).list())
  assert.deepStrictEqual(
    deadLetters.map(({ failure, record }) => [record.id, failure.tag]).sort(),
    impossible.map(({ id }) => [id, "UnknownAccount"]).sort()
  )
})

/** How many entries there are, as soon as the database tells. */
const entries = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ count: number }>`SELECT count(*)::int AS count FROM entry`
  return row!.count
}).pipe(Effect.retry(again))

/** Completes once something more was booked, and not yet everything: a fault after that would test nothing. */
const moreBooked = Effect.gen(function* () {
  const before = yield* entries
  const all = possible.length * 2
  const now = yield* Effect.repeat(entries, { until: (now) => now > before || now === all, schedule: again })
  assert.isBelow(now, all)
})

/** Publishes the payments while `faults` goes on, lets the ledger finish, and checks it. */
const ledgerUnder = <E, R>(faults: (database: TestPostgres.Database) => Effect.Effect<unknown, E, R>) =>
  Effect.gen(function* () {
    const database = yield* Effect.flatMap(TestPostgres.TestPostgres, ({ createDatabase }) => createDatabase())
    yield* Effect.gen(function* () {
      yield* Example.createTables
      const publishing = yield* Effect.forkScoped(publishAll)
      yield* faults(database)
      yield* Fiber.join(publishing)
      yield* untilSettled(Example.Payments, "ledger").pipe(
        Effect.retry(again),
        Effect.provide(Consumer.layer(Example.ledger))
      )
      yield* checkBooks
    }).pipe(
      // Each payment that is impossible is a warning, as it should be; here there are many.
      Effect.provideService(References.MinimumLogLevel, "Error"),
      Effect.provide(
        SuretyPg.layerWith({ lease: "1 second" }).pipe(Layer.provideMerge(PgClient.layer({ url: database.url })))
      )
    )
  })

const live = { excludeTestServices: true }

/** Faults take their time where the machine is busy. */
const patient = { timeout: 180_000 }

it.layer(TestPostgres.layer, live)("the payments example", (it) => {
  it.effect("books a payment that is published twice once, and balances", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* Effect.provide(Example.program, TestPostgres.layerClient), [
        { account: "ada", cents: -2500 },
        { account: "alan", cents: 700 },
        { account: "grace", cents: 1800 },
        { account: "all together", cents: 0 }
      ])
    })
  )

  it.effect(
    "balances when its worker process is killed at many moments",
    () =>
      ledgerUnder(({ url }) =>
        Effect.forEach(
          Array.from({ length: 10 }, (_, life) => life),
          (life) =>
            Effect.scoped(
              Effect.gen(function* () {
                const worker = yield* start(["examples/test/fixtures/ledgerWorker.ts"], {
                  DATABASE_URL: Redacted.value(url)
                })
                yield* worker.line(/^consuming$/)
                // Not at the first sign of life: a message whose process dies three times is taken for the culprit.
                yield* Effect.repeat(moreBooked, { times: 1 + (life % 3) })
                worker.process.kill("SIGKILL")
                assert.strictEqual((yield* worker.ended).signal, "SIGKILL")
              })
            ),
          { discard: true }
        )
      ),
    patient
  )

  it.effect(
    "balances when every connection is ended again and again",
    () =>
      ledgerUnder(({ name }) =>
        Effect.gen(function* () {
          const { url } = yield* TestPostgres.TestPostgres
          const endConnections = Effect.gen(function* () {
            const sql = yield* SqlClient.SqlClient
            return yield* sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ${name}`
          }).pipe(Effect.provide(PgClient.layer({ url })))
          yield* Effect.andThen(moreBooked, endConnections).pipe(
            Effect.map((ended) => assert.isAbove(ended.length, 0)),
            Effect.repeat({ times: 19 }),
            Effect.provide(Consumer.layer(Example.ledger))
          )
        })
      ),
    patient
  )
})

it.layer(TestPostgres.layerEmbedded, live)("the payments example, on a server of its own", (it) => {
  it.effect(
    "balances when PostgreSQL crashes and starts again, three times",
    () =>
      ledgerUnder(() =>
        Effect.gen(function* () {
          const { restart } = yield* TestPostgres.TestPostgres
          yield* Effect.andThen(moreBooked, restart("immediate")).pipe(
            Effect.repeat({ times: 2 }),
            Effect.provide(Consumer.layer(Example.ledger))
          )
        })
      ),
    patient
  )
})
