/** A transfer of money whose connection is disturbed at each message: what is right survives, and what is not is found. */
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, it } from "@effect/vitest"
import * as TestPostgres from "@surety/testing/TestPostgres"
import * as WireFaults from "@surety/testing/WireFaults"
import { Cause, Clock, Effect, Exit, Fiber, Layer } from "effect"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as SqlClient from "effect/sql/SqlClient"

/** A table, a client whose connections run over a wire, and one whose connections do not. */
const setup = Effect.gen(function* () {
  const { createDatabase } = yield* TestPostgres.TestPostgres
  const { url } = yield* createDatabase()
  const wire = WireFaults.make(url)
  const client = (config: PgClient.PgPoolConfig) => Layer.build(Layer.fresh(PgClient.layer({ ...config, url })))
  const app = yield* client({ applicationName: "app", maxConnections: 1, stream: wire.stream })
  const observer = yield* client({ maxConnections: 1 })
  const sql = yield* Effect.provideContext(SqlClient.SqlClient, observer)
  yield* sql`CREATE TABLE entry (id text, amount integer)`
  const transfer = (id: string) =>
    Effect.flatMap(SqlClient.SqlClient, (sql) =>
      sql.withTransaction(
        Effect.andThen(sql`INSERT INTO entry VALUES (${id}, -5)`, sql`INSERT INTO entry VALUES (${id}, 5)`)
      )
    ).pipe(Effect.provideContext(app))
  /** A session whose connection is gone first does what it was sent before: until then nothing is certain. */
  const atRest = Effect.repeat(
    sql<{ count: number }>`SELECT count(*)::integer FROM pg_stat_activity
      WHERE datname = current_database() AND application_name = 'app' AND state <> 'idle'`,
    { until: ([row]) => row!.count === 0 }
  )
  const entries = (id: string) =>
    Effect.map(
      Effect.andThen(atRest, sql<{ count: number }>`SELECT count(*)::integer FROM entry WHERE id = ${id}`),
      ([row]) => row!.count
    )
  return { wire, app, sql, transfer, entries }
})

const repeated = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.retry(Effect.sandbox(effect), { times: 1 })

it.layer(TestPostgres.layer, { excludeTestServices: true })("WireFaults", (it) => {
  it.effect("all of a transaction is there, or nothing, wherever its connection is cut", () =>
    Effect.gen(function* () {
      const { entries, transfer, wire } = yield* setup
      const outcomes = new Map<number, string>()
      const report = yield* WireFaults.enumerate(wire, {
        flow: ({ at, fault, name }) =>
          Effect.gen(function* () {
            const exit = yield* Effect.exit(transfer(name))
            assert.strictEqual(Exit.isFailure(exit), fault !== undefined)
            const found = yield* entries(name)
            assert.include([0, 2], found)
            outcomes.set(at, `${outcomes.get(at) ?? ""}${found}`)
          })
      })
      assert.strictEqual(report.points, report.messages * 2)
      assert.deepStrictEqual(report.missed, [])
      // Cut before the COMMIT was executed, nothing; after it, whatever the client believes, all.
      const seen = Array.from(outcomes.values())
      assert.deepStrictEqual(seen.slice(1, -2), new Array(report.messages - 2).fill("00"))
      assert.deepStrictEqual(seen.slice(-2), ["02", "22"])
    })
  )

  it.effect("finds that repeating it may do it twice, and says where", () =>
    Effect.gen(function* () {
      const { entries, transfer, wire } = yield* setup
      const error = yield* WireFaults.enumerate(wire, {
        flow: ({ name }) =>
          Effect.gen(function* () {
            yield* repeated(transfer(name))
            assert.strictEqual(yield* entries(name), 2)
          })
      }).pipe(Effect.flip)
      assert.instanceOf(error, WireFaults.PointFailed)
      assert.match(error.message, /^cut before message \d+ of \d+ \(S of COMMIT\): expected 4 to equal 2/)
    })
  )

  it.effect("says which message it was, where they come in another order from run to run", () =>
    Effect.gen(function* () {
      const { app, wire } = yield* setup
      const client = yield* Effect.provideContext(SqlClient.SqlClient, app)
      const statements = [client`SELECT 'one'`, client`SELECT 'two'`]
      const error = yield* WireFaults.enumerate(wire, {
        flow: ({ at, name }) =>
          Effect.gen(function* () {
            yield* Effect.exit(Effect.all(at === 0 ? statements : statements.toReversed()))
            if (name.includes("P of SELECT 'one'")) yield* Effect.fail("found")
          })
      }).pipe(Effect.flip)
      assert.match(error.message, /^cut before message \d+ of \d+ \(P of SELECT 'two'\): found$/)
    })
  )

  it.effect("answers that come late, or in pieces, change nothing", () =>
    Effect.gen(function* () {
      const { entries, transfer, wire } = yield* setup
      const report = yield* WireFaults.enumerate(wire, {
        faults: [WireFaults.delay("5 millis"), WireFaults.split(1), WireFaults.split(3, 7)],
        flow: ({ name }) =>
          Effect.gen(function* () {
            yield* transfer(name)
            assert.strictEqual(yield* entries(name), 2)
          })
      })
      assert.strictEqual(report.points, report.messages * 3)
    })
  )

  it.effect("a silent connection keeps its client waiting, and its locks", () =>
    Effect.gen(function* () {
      const { sql, transfer, wire } = yield* setup
      const silence = 200
      const started = yield* Clock.currentTimeMillis
      yield* wire.arm({ at: Infinity, fault: WireFaults.cutBefore })
      yield* transfer("first")
      const commit = wire.messages.findIndex(({ statement }) => statement === "COMMIT") + 1
      yield* wire.arm({ at: commit - 1, fault: WireFaults.withhold(silence) })
      const fiber = yield* Effect.forkChild(Effect.exit(transfer("second")))
      const locks = sql<{ count: number }>`SELECT count(*)::integer FROM pg_locks l
        JOIN pg_stat_activity a ON a.pid = l.pid WHERE a.application_name = 'app' AND l.relation = 'entry'::regclass`
      yield* Effect.repeat(locks, { until: ([row]) => row!.count > 0 })
      const exit = yield* Fiber.join(fiber)
      assert.isAtLeast((yield* Clock.currentTimeMillis) - started, silence)
      assert.isTrue(Exit.isFailure(exit) && /wire was cut|Socket error/.test(Cause.pretty(exit.cause)))
      yield* Effect.repeat(locks, { until: ([row]) => row!.count === 0 })
    })
  )

  it.effect("an application that is silent is heard once it is not", () =>
    Effect.gen(function* () {
      const { entries, transfer, wire } = yield* setup
      const speak = yield* wire.silence("app")
      const fiber = yield* Effect.forkChild(transfer("late"))
      assert.strictEqual(yield* entries("late"), 0)
      yield* speak
      yield* Fiber.join(fiber)
      assert.strictEqual(yield* entries("late"), 2)
    })
  )

  it.effect("an encrypted connection is refused: its messages cannot be told apart", () =>
    Effect.gen(function* () {
      const { url } = yield* TestPostgres.TestPostgres
      const wire = WireFaults.make(url)
      const error = yield* Effect.flatMap(
        PgClient.make({ url, ssl: true, stream: wire.stream }),
        (sql) => sql`SELECT 1`
      ).pipe(Effect.scoped, Effect.provide(Reactivity.layer), Effect.flip)
      assert.match(String(error.reason.cause), /give the client `ssl: false`/)
    })
  )
})
