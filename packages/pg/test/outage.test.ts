/** A database that is away: when an app starts, in the middle of its work, and again and again. */
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import { Consumer, type Envelope, ExactlyOnce, Guarantee, Producer, type PublishError } from "@surety/core"
import * as PgSchema from "@surety/pg/PgSchema"
import type { PgSchemaError } from "@surety/pg/PgSchemaError"
import * as TestPostgres from "@surety/testing/TestPostgres"
import { Clock, Effect, Fiber, Layer, Redacted, Schedule } from "effect"
import {
  deadLetters,
  effect,
  type Node,
  type Note,
  note,
  notes,
  Out,
  onServer,
  published,
  start,
  TestDatabase,
  until,
  value,
  values
} from "./support/nodes.ts"

const Work = notes({ partitions: 4 })

const refused = (config: PgClient.PgPoolConfig) =>
  Effect.flip(
    Effect.scoped(Layer.build(Layer.fresh(PgSchema.layer.pipe(Layer.provide(PgClient.layer(config))))))
  ) as Effect.Effect<PgSchemaError>

/** The session that looks on has lost its connections as well. */
const again = <A, E, R>(look: Effect.Effect<A, E, R>) =>
  Effect.retry(look, Schedule.spaced("50 millis").pipe(Schedule.upTo({ duration: "20 seconds" })))

/** How publishes ended. */
interface Ledger {
  readonly acked: Set<string>
  readonly maybe: Set<string>
  readonly notSent: Set<string>
}

const record = (ledger: Ledger, id: string) => (error: PublishError) =>
  Effect.sync(() => {
    assert.include(["MaybeSent", "NotSent"], error.reason._tag)
    ;(error.reason._tag === "MaybeSent" ? ledger.maybe : ledger.notSent).add(id)
  })

/** Producers whose schedules are long, and one that tries once; until the flag is set. */
const produce = Effect.fnUntraced(function* (node: Node, ledger: Ledger, stopped: () => boolean) {
  const once = yield* node.run(
    Layer.build(
      Layer.fresh(ExactlyOnce.layer.pipe(Layer.provide(Guarantee.AtLeastOnce.layerWith({ retry: Schedule.recurs(0) }))))
    )
  )
  let last = 0
  const publish = Effect.suspend(() => {
    const id = `m${++last}`
    return Producer.publish(Work, note(id, { key: `${last % 20}` })).pipe(
      Effect.tap(() => Effect.sync(() => ledger.acked.add(id))),
      Effect.catch(record(ledger, id))
    )
  })
  const repeated = <E, R>(each: Effect.Effect<unknown, E, R>) =>
    Effect.forkScoped(node.run(Effect.repeat(each, { schedule: Schedule.spaced("5 millis"), until: stopped })))
  return yield* Effect.all([
    ...Array.from({ length: 4 }, () => repeated(publish)),
    repeated(Effect.provideContext(publish, once))
  ])
})

/** Publishes and handles while the fault happens, and afterwards; then nothing is lost, and nothing done twice. */
const survives = <E, R>(fault: (ledger: Ledger) => Effect.Effect<unknown, E, R>) =>
  Effect.gen(function* () {
    const producer = yield* start()
    const workers = [yield* start(), yield* start()]
    yield* Effect.forEach(workers, (worker) =>
      worker.consume(
        Consumer.make(Work, {
          group: "workers",
          concurrency: 2,
          handler: Effect.fnUntraced(function* ({ id }: Note, { attempt }: Envelope.Envelope<Note>) {
            yield* effect(id, `${attempt}`)
            yield* Effect.orDie(Producer.publish(Out, id))
          })
        }).pipe(Consumer.orDeadLetter)
      )
    )
    const ledger: Ledger = { acked: new Set(), maybe: new Set(), notSent: new Set() }
    let stopped = false
    const producers = yield* produce(producer, ledger, () => stopped)
    const acked = (count: number) =>
      until(
        `${count} acknowledged`,
        Effect.sync(() => ledger.acked.size >= count)
      )
    yield* acked(100)
    yield* fault(ledger)
    yield* acked(ledger.acked.size + 100)
    stopped = true
    yield* Effect.forEach(producers, (fiber) => Fiber.join(fiber))
    yield* until(
      "all are settled",
      again(
        value<boolean>(`SELECT count(*) = 0 AS value FROM surety.log l JOIN surety.topic t ON t.id = l.topic
          JOIN surety.consumer_group g ON g.topic = t.id
          JOIN surety.cursor c ON c.consumer_group = g.id AND c.partition = l.partition
          WHERE l.log_offset > c.settled`)
      )
    )
    const done = yield* again(values<string>("SELECT id AS value FROM effect"))
    const seen = new Set(done)
    assert.strictEqual(seen.size, done.length, "handled twice")
    assert.deepStrictEqual(
      Array.from(ledger.acked).filter((id) => !seen.has(id)),
      [],
      "acknowledged and lost"
    )
    assert.deepStrictEqual(
      done.filter((id) => !ledger.acked.has(id) && !ledger.maybe.has(id)),
      [],
      "never published"
    )
    const log = yield* again(published("work"))
    assert.deepStrictEqual(
      log.filter((id) => ledger.notSent.has(id)),
      [],
      "said not to be sent"
    )
    assert.deepStrictEqual((yield* published("out")).toSorted(), done.toSorted())
    assert.deepStrictEqual(yield* deadLetters, [])
    assert.deepStrictEqual(yield* values("SELECT failures AS value FROM surety.attempt WHERE failures > 0"), [])
    return ledger
  })

describe("a database that is away", () => {
  it.layer(TestPostgres.layerEmbedded, { excludeTestServices: true })((it) => {
    it.effect("when the layer is built: says so, and works once it is there", () =>
      onServer(
        Effect.gen(function* () {
          const { start: startServer, stop } = yield* TestPostgres.TestPostgres
          const { url } = yield* TestDatabase
          yield* stop("fast")
          const error = yield* refused({ url })
          yield* startServer
          assert.strictEqual(error._tag, "PgSchemaError")
          assert.strictEqual(error.reason, "Unreachable")
          assert.match(
            error.message,
            /^schema "surety": cannot connect to PostgreSQL \(.*\); start the server, or correct its address/
          )
          yield* start()
        })
      )
    )

    it.effect("a password that is wrong, and a database that does not exist", () =>
      onServer(
        Effect.gen(function* () {
          const { host, password, port, username } = yield* TestPostgres.TestPostgres
          const wrong = "not the password"
          const unauthorized = yield* refused({ host, port, username, password: Redacted.make(wrong) })
          assert.strictEqual(unauthorized.reason, "Unauthorized")
          assert.match(unauthorized.message, /password authentication failed.*; check the credentials/)
          assert.notInclude(unauthorized.message, wrong)
          const missing = yield* refused({ host, port, username, password, database: "nowhere" })
          assert.strictEqual(missing.reason, "Unreachable")
          assert.match(missing.message, /"nowhere" does not exist; create the database first/)
        })
      )
    )

    it.effect("for five seconds in the middle", () =>
      onServer(
        Effect.gen(function* () {
          const { start: startServer, stop } = yield* TestPostgres.TestPostgres
          const ledger = yield* survives(() =>
            Effect.gen(function* () {
              yield* stop("fast")
              const since = yield* Clock.currentTimeMillis
              yield* until(
                "five seconds have passed",
                Effect.map(Clock.currentTimeMillis, (now) => now - since >= 5000)
              )
              yield* startServer
            })
          )
          assert.isAbove(ledger.notSent.size, 0)
        })
      )
    )

    it.effect("by two crashes in the middle", () =>
      onServer(
        Effect.gen(function* () {
          const { restart } = yield* TestPostgres.TestPostgres
          yield* survives((ledger) =>
            Effect.gen(function* () {
              for (let i = 0; i < 2; i++) {
                yield* restart("immediate")
                const { size } = ledger.acked
                yield* until(
                  "publishing goes on",
                  Effect.sync(() => ledger.acked.size > size + 20)
                )
              }
            })
          )
        })
      )
    )

    it.effect("for every session, again and again", () =>
      onServer(
        survives((ledger) =>
          Effect.gen(function* () {
            for (let i = 0; i < 12; i++) {
              yield* Effect.ignore(
                values(`SELECT pg_terminate_backend(pid) AS value FROM pg_stat_activity
                  WHERE datname = current_database() AND pid <> pg_backend_pid()`)
              )
              const { size } = ledger.acked
              yield* until(
                "publishing goes on",
                Effect.sync(() => ledger.acked.size > size + 20)
              )
            }
          })
        )
      )
    )
  })
})
