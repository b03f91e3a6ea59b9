/**
 * Delayed delivery on PostgreSQL: stored with the transaction, not before its
 * time, once, in order, and never skipped by a reader, whoever moves it and
 * whatever becomes of them.
 */
import { assert, describe, it } from "@effect/vitest"
import { Consumer, Producer, Topic } from "@surety/core"
import { Data, Effect, Exit, Fiber, Scope } from "effect"
import * as SqlClient from "effect/sql/SqlClient"
import { inLab, type Lab, Log } from "./support/lab.ts"
import {
  changeFunction,
  deadLetters,
  effect,
  effects,
  holding,
  inDatabase,
  note,
  notes,
  Out,
  published,
  settled,
  start,
  until,
  value,
  values,
  Work
} from "./support/nodes.ts"

class Refused extends Data.TaggedError("Refused")<{ readonly id: string }> {}

const delayed = values<string>("SELECT id AS value FROM surety.delayed ORDER BY due_at, seq")

/** Time passes for what is waiting. */
const fallDue = values("UPDATE surety.delayed SET due_at = clock_timestamp() - interval '1 minute'")

const readable = (topic: string, count: number) =>
  until(
    `${count} of ${topic} readable`,
    Effect.map(published(topic), (ids) => ids.length === count)
  )

describe("a delayed message", () => {
  for (const guarantee of ["at-most-once", "at-least-once", "exactly-once"] as const) {
    it.live(`is stored at once, and readable not before its time: ${guarantee}`, () =>
      inDatabase(
        Effect.gen(function* () {
          const Topic = notes({ guarantee })
          const node = yield* start()
          yield* node.consume(Consumer.make(Topic, { group: "workers", handler: ({ id }) => effect(id) }))
          yield* values("CREATE TABLE began AS SELECT clock_timestamp() AS at")
          const { state } = yield* node.run(Producer.publish(Topic, note("late"), { delay: "400 millis" }))
          assert.strictEqual(state, "stored")
          assert.deepStrictEqual(yield* delayed, ["late"])
          yield* node.run(Producer.publish(Topic, note("early")))
          yield* until(
            "both handled",
            Effect.map(effects, (handled) => handled.length === 2)
          )
          assert.deepStrictEqual(yield* effects, ["early", "late"])
          assert.deepStrictEqual(yield* delayed, [])
          const waited = yield* value<number>(
            "SELECT extract(epoch FROM e.at - b.at)::float8 * 1000 AS value FROM effect e, began b WHERE e.id = 'late'"
          )
          assert.isAtLeast(waited, 400)
        })
      )
    )
  }

  it.live("comes at its time without a poll", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start({ pollInterval: "1 hour" })
        yield* node.consume(Consumer.make(Work, { group: "workers", handler: ({ id }) => effect(id) }))
        yield* node.run(Producer.publish(Work, note("a"), { delay: "200 millis" }))
        yield* node.run(Producer.publish(Work, note("past"), { deliverAt: 0 }))
        yield* settled(2)
        assert.deepStrictEqual(yield* effects, ["past", "a"])
      })
    )
  )

  it.live("of one key comes by due time, then in publish order, with its headers and bytes", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        const other = yield* start()
        const at = Date.now() + 3_600_000
        yield* node.run(Producer.publish(Work, note("c", { key: "k" }), { deliverAt: at + 1, headers: { a: "ü\0\\" } }))
        yield* other.run(
          Producer.publishAll(Work, [note("a", { key: "k" }), note("b\0\\", { key: "k", body: "\u{1F600}" })], {
            deliverAt: new Date(at)
          })
        )
        yield* node.run(Producer.publish(Work, note("b2", { key: "k" }), { deliverAt: at }))
        assert.deepStrictEqual(yield* published("work"), [])
        yield* values("UPDATE surety.delayed SET due_at = due_at - interval '2 hours'")
        const headers: Array<string | undefined> = []
        const bodies: Array<string | undefined> = []
        yield* node.consume(
          Consumer.make(Work, {
            group: "workers",
            handler: ({ body, id }, envelope) => {
              headers.push(envelope.headers.a)
              bodies.push(body)
              return effect(JSON.stringify(id))
            }
          })
        )
        yield* settled(4)
        assert.deepStrictEqual(yield* effects, ['"a"', JSON.stringify("b\0\\"), '"b2"', '"c"'])
        assert.deepStrictEqual(headers, [undefined, undefined, undefined, "ü\0\\"])
        assert.deepStrictEqual(bodies, [undefined, "\u{1F600}", undefined, undefined])
      })
    )
  )

  it.live("takes effect once, also beside an undelayed copy", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        yield* node.consume(Consumer.make(Work, { group: "workers", handler: ({ id }) => effect(id) }))
        yield* node.run(Producer.publish(Work, note("a"), { delay: "1 hour" }))
        yield* node.run(Producer.publish(Work, note("a"), { delay: "1 hour" }))
        yield* node.publish(note("a"))
        yield* fallDue
        yield* settled(3)
        assert.deepStrictEqual(yield* effects, ["a"])
      })
    )
  )

  it.live("is refused as others are, and stores nothing then", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start({ maxRecordBytes: 1000 })
        const large = note("large", { body: "x".repeat(1000) })
        const error = yield* Effect.flip(node.run(Producer.publishAll(Work, [note("a"), large], { delay: 1 })))
        assert.include(error.message, "over the limit of 1000")
        assert.deepStrictEqual(yield* delayed, [])
        assert.deepStrictEqual(yield* published("work"), [])
      })
    )
  )
})

describe("in a transaction", () => {
  it.live("of the app it is stored if and only if that commits", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start({ pollInterval: "1 hour" })
        const inTransaction = (id: string, outcome: Effect.Effect<void, Refused>) =>
          node.run(
            Effect.gen(function* () {
              const sql = yield* SqlClient.SqlClient
              yield* sql.withTransaction(
                Effect.gen(function* () {
                  const { state } = yield* Producer.publish(Work, note(id), { delay: 0 })
                  assert.strictEqual(state, "joined")
                  yield* Effect.ignore(
                    sql.withTransaction(
                      Effect.andThen(Producer.publish(Work, note(`${id} inner`), { delay: 0 }), new Refused({ id }))
                    )
                  )
                  yield* outcome
                })
              )
            })
          )
        yield* Effect.flip(inTransaction("bad", new Refused({ id: "bad" })))
        assert.deepStrictEqual(yield* delayed, [])
        yield* inTransaction("good", Effect.void)
        yield* readable("work", 1)
        assert.deepStrictEqual(yield* published("work"), ["good"])
        assert.deepStrictEqual(yield* delayed, [])
      })
    )
  )

  it.live("of a handler it leaves with its commit, and not with a rollback", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        yield* node.consume(
          Consumer.make(Work, {
            group: "workers",
            handler: ({ id }) =>
              Effect.gen(function* () {
                const sql = yield* SqlClient.SqlClient
                yield* Producer.publish(Out, `${id} later`, { delay: "1 hour" })
                yield* Producer.publish(Out, `${id} now`)
                yield* Effect.ignore(
                  sql.withTransaction(
                    Effect.andThen(Producer.publish(Out, `${id} never`, { delay: "1 hour" }), new Refused({ id }))
                  )
                )
                yield* Producer.publish(Out, `${id} sooner`, { delay: "1 minute" })
                if (id === "bad") return yield* new Refused({ id })
              })
          }).pipe(Consumer.orDeadLetter)
        )
        yield* node.publish(note("bad"), note("good"))
        yield* settled(2)
        assert.deepStrictEqual(yield* deadLetters, ["bad Refused 1"])
        assert.deepStrictEqual(yield* published("out"), ["good now"])
        assert.deepStrictEqual(yield* delayed, ["good sooner", "good later"])
        yield* fallDue
        yield* readable("out", 3)
      })
    )
  )
})

describe("the processes that move it", () => {
  const count = 3_000
  const ids = Array.from({ length: count }, (_, index) => `m${index}`)

  it.live("are several, and each message comes once, in order", () =>
    inDatabase(
      Effect.gen(function* () {
        const nodes = yield* Effect.all([start(), start(), start(), start()])
        const [node] = nodes
        // More than one batch; due together, and noticed by all.
        yield* node.run(
          Producer.publishAll(
            Work,
            ids.map((id) => note(id, { key: "k" })),
            { delay: "1 hour" }
          )
        )
        yield* fallDue
        yield* Effect.all(
          nodes.map((node) => node.run(Producer.publish(Work, note("go"), { delay: "1 hour" }))),
          { concurrency: "unbounded" }
        )
        yield* readable("work", count)
        assert.deepStrictEqual(yield* published("work"), ids)
        assert.deepStrictEqual(yield* delayed, ["go", "go", "go", "go"])
      })
    )
  )

  it.live("move it in batches of bounded size, one message at the least", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        const sql = yield* SqlClient.SqlClient
        const body = "x".repeat(1000)
        yield* node.run(
          Producer.publishAll(
            Work,
            ["a", "b", "c", "d"].map((id) => note(id, { body })),
            { delay: "1 hour" }
          )
        )
        const move = (limit: number, bytes: number) =>
          value<ReadonlyArray<number>>("SELECT surety.deliver_due(id, $1, $2) AS value FROM surety.topic", limit, bytes)
        // In one transaction, which alone knows that they are due.
        yield* sql.withTransaction(
          Effect.gen(function* () {
            yield* fallDue
            assert.lengthOf(yield* move(1, 2500), 1)
            assert.lengthOf(yield* move(10, 500), 1)
            assert.lengthOf(yield* move(10, 2500), 2)
            assert.lengthOf(yield* move(10, 2500), 0)
          })
        )
        assert.deepStrictEqual(yield* published("work"), ["a", "b", "c", "d"])
      })
    )
  )

  it.live("may end before the time comes: another one finds it", () =>
    inDatabase(
      Effect.gen(function* () {
        const scope = yield* Scope.make()
        const publisher = yield* Scope.provide(start(), scope)
        yield* publisher.run(Producer.publish(Work, note("a"), { delay: "1 hour" }))
        yield* Scope.close(scope, Exit.void)
        yield* fallDue
        assert.deepStrictEqual(yield* published("work"), [])
        yield* start()
        yield* readable("work", 1)
        assert.deepStrictEqual(yield* delayed, [])
      })
    )
  )

  it.live("may be killed in the middle: nothing is lost, and nothing comes twice", () =>
    inDatabase(
      Effect.gen(function* () {
        // Stops the mover after it has drawn the offsets, before its commit.
        yield* start()
        yield* changeFunction("deliver_due", "RETURN v_due", "PERFORM pg_advisory_xact_lock_shared(4711); RETURN v_due")
        const pause = yield* holding(values("SELECT pg_advisory_xact_lock(4711)"))
        const node = yield* start()
        yield* node.run(Producer.publish(Work, note("a"), { delay: 0 }))
        const movers = (state: string) =>
          values<number>(
            `SELECT pid AS value FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = 'app:control' AND wait_event = 'advisory' AND ${state}`
          )
        yield* until(
          "a mover in the middle",
          Effect.map(movers("true"), (found) => found.length === 1)
        )
        const [killed] = yield* movers("true")
        yield* values("SELECT pg_terminate_backend($1) AS value", killed)
        yield* until(
          "another one takes over",
          Effect.map(movers(`pid <> ${killed}`), (found) => found.length === 1)
        )
        assert.deepStrictEqual(yield* published("work"), [])
        yield* pause
        yield* readable("work", 1)
        assert.deepStrictEqual(yield* delayed, [])
      })
    )
  )
})

describe("the log", () => {
  type LabService = Lab["Service"]
  const later = (id: string) =>
    Effect.asVoid(Producer.publish(Log, id, { delay: "1 hour" })) as Effect.Effect<void, unknown, never>
  /** Moves what is waiting, in the calling transaction, which alone knows that it is due. */
  const move = (lab: LabService, ...which: ReadonlyArray<string>) =>
    Effect.gen(function* () {
      yield* lab.sql`UPDATE surety.delayed SET due_at = clock_timestamp() - interval '1 hour' + seq * interval '1 second'
        WHERE id IN ${lab.sql.in(which)}`
      return yield* lab.sql<{ moved: ReadonlyArray<number> | null }>`
        SELECT surety.deliver_due(id, 10, 1000000) AS moved FROM surety.topic`
    })

  it.effect("is not read past what is being moved into it", () =>
    inLab((lab) =>
      Effect.gen(function* () {
        yield* later("late")
        const moving = yield* lab.open(move(lab, "late"))
        yield* lab.publish("early")
        assert.deepStrictEqual(yield* lab.read, [])
        yield* moving.commit
        assert.deepStrictEqual(yield* lab.read, ["late", "early"])
      })
    )
  )

  it.effect("it would be skipped, moved without the horizon's lock: the test can fail", () =>
    inLab((lab) =>
      Effect.gen(function* () {
        yield* lab.switchOff("hold_horizon", "pg_advisory_xact_lock_shared(", "concat(")
        yield* later("late")
        const moving = yield* lab.open(move(lab, "late"))
        yield* lab.publish("early")
        assert.deepStrictEqual(yield* lab.read, ["early"])
        yield* moving.commit
      })
    )
  )

  /** A mover that is slow between picking and drawing, and another one meanwhile. */
  const twoMovers = (lab: LabService) =>
    Effect.gen(function* () {
      yield* later("first")
      yield* later("second")
      yield* lab.switchOff(
        "deliver_due",
        "IF cardinality(",
        "IF current_setting('surety.slow', true) = 'yes' THEN PERFORM pg_advisory_xact_lock_shared(4711); END IF; IF cardinality("
      )
      const pause = yield* lab.open(lab.sql`SELECT pg_advisory_xact_lock(4711)`)
      const slow = yield* Effect.forkChild(
        lab.open(Effect.andThen(lab.sql`SELECT set_config('surety.slow', 'yes', true)`, move(lab, "first")))
      )
      yield* Effect.repeat(
        lab.sql<{ paused: boolean }>`SELECT EXISTS (
          SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted
        ) AS paused`,
        { until: ([row]) => row!.paused }
      )
      const fast = yield* lab.open(move(lab, "second"))
      yield* fast.commit
      yield* pause.commit
      yield* (yield* Fiber.join(slow)).commit
      yield* Effect.repeat(lab.read, { until: (ids) => ids.length === 2 })
      return yield* lab.read
    })

  it.effect("holds what fell due earlier before what fell due later, whoever moves it", () =>
    inLab((lab) => Effect.map(twoMovers(lab), (read) => assert.deepStrictEqual(read, ["first", "second"])))
  )

  it.effect("with two movers at once it would not: the test can fail", () =>
    inLab((lab) =>
      Effect.gen(function* () {
        yield* lab.switchOff("deliver_due", "IF NOT pg_try", "IF false AND NOT pg_try")
        assert.deepStrictEqual(yield* twoMovers(lab), ["second", "first"])
      })
    )
  )
})

describe("topics", () => {
  it.live("do not wait for one whose messages cannot be delivered", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        const Broken = Topic.make("broken", { schema: Work.schema, guarantee: "at-least-once", partitions: 1 })
        yield* node.run(Producer.publish(Broken, note("a"), { delay: "1 hour" }))
        yield* node.run(Producer.publish(Work, note("b"), { delay: "1 hour" }))
        yield* values("DROP SEQUENCE surety.offset_1")
        yield* fallDue
        yield* readable("work", 1)
        assert.deepStrictEqual(yield* delayed, yield* values("SELECT id AS value FROM surety.delayed WHERE topic = 1"))
        assert.lengthOf(yield* delayed, 1)
      })
    )
  )
})
