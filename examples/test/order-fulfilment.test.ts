import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import { DeadLetters } from "@surety/core"
import * as SuretyPg from "@surety/pg/SuretyPg"
import * as TestPostgres from "@surety/testing/TestPostgres"
import { Deferred, Effect, Layer, Redacted, Schedule, Stream, SubscriptionRef } from "effect"
import { SqlClient } from "effect/sql"
import { discrepancies } from "../src/order-fulfilment/audit.ts"
import * as CarrierApi from "../src/order-fulfilment/carrierApi.ts"
import * as Input from "../src/order-fulfilment/input.ts"
import { publish, settled } from "../src/order-fulfilment/shop.ts"
import * as Tables from "../src/order-fulfilment/tables.ts"
import { run, start } from "./support/program.ts"

const again = Schedule.spaced("10 millis")

/** A carrier that lets the first request for some orders hang, until it is told to go on, and takes all others at once. */
const slowFor = (orders: ReadonlyArray<string>) => {
  const gates = new Map(
    orders.map((order) => [order, { arrived: Deferred.makeUnsafe<void>(), go: Deferred.makeUnsafe<void>() }])
  )
  return {
    open: Effect.forEach(gates.values(), ({ go }) => Deferred.succeed(go, undefined), { discard: true }),
    gate: (order: string) => gates.get(order)!,
    answer: ({ order, times }: CarrierApi.Asked): Effect.Effect<CarrierApi.Answer> => {
      const gate = times === 1 ? gates.get(order) : undefined
      return gate === undefined
        ? Effect.succeed("taken")
        : Deferred.succeed(gate.arrived, undefined).pipe(Effect.andThen(Deferred.await(gate.go)), Effect.as("taken"))
    }
  }
}
type Slow = ReturnType<typeof slowFor>

/** A database, enough of everything in stock, and a carrier. Workers are started, and ended, by the test. */
const shop = ({ answer, open }: Slow) =>
  Effect.gen(function* () {
    const { createDatabase } = yield* TestPostgres.TestPostgres
    const { url } = yield* createDatabase()
    const services = yield* Layer.build(SuretyPg.layer.pipe(Layer.provideMerge(PgClient.layer({ url }))))
    const carrier = yield* CarrierApi.serve(answer)
    yield* Effect.addFinalizer(() => open)
    yield* Effect.andThen(
      Tables.create,
      Effect.andThen(Tables.deliver(Input.firstDelivery), Tables.deliver(Input.secondDelivery))
    ).pipe(Effect.provide(services))
    return {
      carrier,
      services,
      worker: (lease: string) =>
        start(["examples/src/order-fulfilment/worker.ts"], {
          DATABASE_URL: Redacted.value(url),
          CARRIER_URL: carrier.url,
          LEASE: lease
        })
    }
  })

const orderOf = (index: number) => Input.orders[index]!.id

/** The groups in which partitions are held. */
const groups = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  return yield* sql`
    SELECT DISTINCT g.name FROM surety.lease e JOIN surety.consumer_group g ON g.id = e.consumer_group
    WHERE e.holder IS NOT NULL`
})

const balanced = Effect.fnUntraced(function* (parcels: ReadonlyMap<string, string>) {
  assert.deepStrictEqual(yield* discrepancies(parcels), [])
  const letters = yield* DeadLetters.DeadLetters.use(({ list }) => Stream.runCollect(list()))
  assert.deepStrictEqual(
    letters.map(({ failure, record }) => [record.id, failure.tag]),
    []
  )
})

/** Processes take their time where the machine is busy. */
const patient = { timeout: 180_000 }

it.layer(TestPostgres.layer, { excludeTestServices: true })("the order example's workers", (it) => {
  it.effect(
    "stopped with SIGTERM, finish what runs, and leave nothing for a successor to wait for",
    () =>
      Effect.gen(function* () {
        const slow = slowFor([orderOf(0)])
        const { carrier, services, worker } = yield* shop(slow)
        yield* Effect.gen(function* () {
          yield* publish(0, 1)
          // Longer than the test may take: whoever waited for it would not pass.
          const stopped = yield* worker("10 minutes")
          yield* Deferred.await(slow.gate(orderOf(0)).arrived)
          stopped.process.kill("SIGTERM")
          // Its consumers with nothing to finish have left their groups.
          yield* Effect.repeat(groups, { until: (held) => held.length === 1, schedule: again })
          yield* Deferred.succeed(slow.gate(orderOf(0)).go, undefined)
          const { code, stderr, stdout } = yield* stopped.ended
          assert.deepStrictEqual({ code, stderr, stdout }, { code: 130, stderr: [], stdout: [] })
          assert.deepStrictEqual(yield* groups, [])
          assert.include(Array.from(carrier.parcels.values()), orderOf(0))

          yield* worker("10 minutes")
          yield* settled
          yield* balanced(carrier.parcels)
          // Nothing that the first one had begun is done again, and nothing that it had claimed is lost.
          assert.strictEqual(yield* SubscriptionRef.get(carrier.requests), Input.orders.length)
          assert.strictEqual(yield* Tables.countedViews, Input.views.length)
        }).pipe(Effect.provide(services))
      }),
    patient
  )

  it.effect(
    "killed again and again while the carrier is asked, lose no order and double none",
    () =>
      Effect.gen(function* () {
        const lives = 4
        const slow = slowFor(Array.from({ length: lives }, (_, life) => orderOf(life)))
        const { carrier, services, worker } = yield* shop(slow)
        yield* Effect.gen(function* () {
          for (let life = 0; life < lives; life++) {
            const killed = yield* worker("1 second")
            yield* publish(life, lives)
            yield* Deferred.await(slow.gate(orderOf(life)).arrived)
            killed.process.kill("SIGKILL")
            assert.strictEqual((yield* killed.ended).signal, "SIGKILL")
          }
          yield* worker("1 second")
          yield* settled
          yield* balanced(carrier.parcels)
          // Whoever was killed had asked already: at least once.
          assert.isAtLeast(yield* SubscriptionRef.get(carrier.requests), Input.orders.length + lives)
          assert.isAtMost(yield* Tables.countedViews, Input.views.length)
        }).pipe(Effect.provide(services))
      }),
    patient
  )

  it.effect(
    "killed in the middle of a transaction, leave nothing of it",
    () =>
      Effect.gen(function* () {
        const { carrier, services, worker } = yield* shop(slowFor([]))
        yield* Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          yield* publish(0, 1)
          // Its handlers come as far as the desks, and wait there in their open transaction.
          yield* Effect.gen(function* () {
            yield* sql`SELECT FROM stock WHERE product = 'desk' FOR UPDATE`
            const killed = yield* worker("1 second")
            const waiting = sql`SELECT FROM pg_locks WHERE NOT granted AND locktype IN ('transactionid', 'tuple')`
            yield* Effect.repeat(waiting, { until: (sessions) => sessions.length > 0, schedule: again })
            killed.process.kill("SIGKILL")
            assert.strictEqual((yield* killed.ended).signal, "SIGKILL")
          }).pipe(sql.withTransaction)
          yield* worker("1 second")
          yield* settled
          yield* balanced(carrier.parcels)
        }).pipe(Effect.provide(services))
      }),
    patient
  )
})

describe("npm run example order-fulfilment", () => {
  it.live(
    "serves every order once, though a worker is stopped and one is killed",
    () =>
      Effect.gen(function* () {
        const { code, stderr, stdout } = yield* run(["scripts/example.ts", "order-fulfilment"])
        assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: [] })
        const report = stdout.join("\n")
        assert.match(report, /^promises +orders exactly-once, page-views at-most-once, shipments at-least-once$/m)
        assert.match(report, /^shipments +240,/m)
        assert.match(report, /^dead letters [1-9]\d+ redriven, 0 left$/m)
        assert.match(report, /^Every order was reserved once and shipped once\.$/m)
      }),
    patient
  )
})
