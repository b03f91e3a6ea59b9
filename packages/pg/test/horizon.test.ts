/**
 * POSTGRES.md, section A: the reader skips nothing and keeps draw order, while
 * publishers neither wait for it nor for each other. Each rule is also switched
 * off, and must then be missed.
 */

import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import { Producer, Topic, Transport, type TransportError } from "@surety/core"
import * as PgSchema from "@surety/pg/PgSchema"
import * as PgTransport from "@surety/pg/PgTransport"
import * as TestPostgres from "@surety/testing/TestPostgres"
import { Effect, Fiber, Layer } from "effect"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as SqlClient from "effect/sql/SqlClient"
import { inLab, type Lab, Log } from "./support/lab.ts"

const begins = {
  "READ COMMITTED": "BEGIN ISOLATION LEVEL READ COMMITTED",
  "REPEATABLE READ": "BEGIN ISOLATION LEVEL REPEATABLE READ",
  SERIALIZABLE: "BEGIN ISOLATION LEVEL SERIALIZABLE"
}

type LabService = Lab["Service"]
const publish = (...texts: ReadonlyArray<string>) => Producer.publishAll(Log, texts)

describe("a publisher that commits late", () => {
  for (const [isolation, begin] of Object.entries(begins)) {
    it.effect(`is neither skipped nor overtaken, under ${isolation}`, () =>
      inLab((lab) =>
        Effect.gen(function* () {
          const late = yield* lab.open(publish("late 1", "late 2"), begin)
          yield* lab.publish("early")
          assert.deepStrictEqual(yield* lab.read, [])
          yield* late.commit
          assert.deepStrictEqual(yield* lab.read, ["late 1", "late 2", "early"])
        })
      )
    )
  }

  it.effect("that rolls back holds nothing back any more, and leaves nothing", () =>
    inLab((lab) =>
      Effect.gen(function* () {
        const late = yield* lab.open(publish("late"))
        yield* lab.publish("early")
        yield* late.rollback
        assert.deepStrictEqual(yield* lab.read, ["early"])
      })
    )
  )

  it.effect("is skipped when publishing takes no lock: the test can fail", () =>
    inLab((lab) =>
      Effect.gen(function* () {
        yield* lab.switchOff("hold_horizon", "pg_advisory_xact_lock_shared(", "concat(")
        const late = yield* lab.open(publish("late"))
        yield* lab.publish("early")
        assert.deepStrictEqual(yield* lab.read, ["early"])
        yield* late.commit
      })
    )
  )

  it.effect("holds back only its own topic", () =>
    inLab((lab) =>
      Effect.gen(function* () {
        const Other = Topic.make("other", { schema: Log.schema, guarantee: "at-least-once", partitions: 1 })
        const late = yield* lab.open(Producer.publish(Other, "late"))
        yield* lab.publish("early")
        assert.deepStrictEqual(yield* lab.read, ["early"])
        yield* late.commit
      })
    )
  )
})

const pauseLock = 4711

describe("rule 1: the rows are read by a later snapshot than the horizon", () => {
  /** A reader that is stopped between its statement's snapshot and the horizon, while a late publisher commits. */
  const scenario = (lab: LabService, read: Effect.Effect<ReadonlyArray<string>>) =>
    Effect.gen(function* () {
      const late = yield* lab.open(publish("late"))
      yield* lab.publish("early")
      yield* lab.switchOff(
        "horizon",
        "v_last := coalesce",
        `PERFORM pg_advisory_lock_shared(${pauseLock}); PERFORM pg_advisory_unlock_shared(${pauseLock}); v_last := coalesce`
      )
      const pause = yield* lab.open(lab.sql`SELECT pg_advisory_xact_lock(${pauseLock})`)
      const reader = yield* Effect.forkChild(read)
      yield* Effect.repeat(
        lab.sql<{ paused: boolean }>`SELECT EXISTS (
          SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = ${pauseLock} AND NOT granted
        ) AS paused`,
        { until: ([row]) => row!.paused }
      )
      yield* late.commit
      yield* pause.commit
      return yield* Fiber.join(reader)
    })

  it.effect("a commit in between is not skipped", () =>
    inLab((lab) => Effect.map(scenario(lab, lab.read), (read) => assert.deepStrictEqual(read, ["late", "early"])))
  )

  it.effect("it is skipped when one statement reads both: the test can fail", () =>
    inLab((lab) => {
      const oneStatement = lab.sql<{ id: string }>`SELECT l.id FROM surety.log l
        WHERE l.log_offset <= (SELECT surety.horizon(t.id) FROM surety.topic t) ORDER BY l.log_offset`
      return Effect.map(
        scenario(lab, Effect.orDie(Effect.map(oneStatement, (found) => found.map(({ id }) => id)))),
        (read) => assert.deepStrictEqual(read, ["early"])
      )
    })
  )

  it.effect("a reader under REPEATABLE READ is refused", () =>
    inLab((lab) =>
      Effect.gen(function* () {
        yield* lab.publish("one")
        const error = yield* lab.sql`SELECT surety.horizon(id) FROM surety.topic`.pipe(
          lab.sql.withTransaction,
          Effect.provideService(SqlClient.BeginTransaction, begins["REPEATABLE READ"]),
          Effect.flip
        )
        assert.include(String(error.reason.cause), "READ COMMITTED")
      })
    )
  )
})

describe("rule 2: one lock per transaction and topic", () => {
  const many = Effect.forEach(
    Array.from({ length: 500 }, (_, index) => `message ${index}`),
    (text) => Producer.publish(Log, text),
    { discard: true }
  )
  const locks = (lab: LabService) =>
    Effect.map(
      lab.sql<{ count: bigint }>`SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
        AND classid = ${lab.sequence}::regclass::oid`,
      ([row]) => Number(row!.count)
    )

  it.effect("however often it publishes", () =>
    inLab((lab) =>
      Effect.gen(function* () {
        const open = yield* lab.open(many)
        assert.strictEqual(yield* locks(lab), 1)
        yield* open.commit
        assert.lengthOf(yield* lab.read, 500)
      })
    )
  )

  it.effect("without remembering it there are as many as publishes: the test can fail", () =>
    inLab((lab) =>
      Effect.gen(function* () {
        yield* lab.switchOff("hold_horizon", "> 0", "< 0")
        const open = yield* lab.open(many)
        assert.strictEqual(yield* locks(lab), 500)
        yield* open.commit
      })
    )
  )

  /** Publishes in a savepoint that it rolls back, with or without a publish before it, and then publishes again. */
  const withSavepoint = (lab: LabService, before: boolean) =>
    Effect.gen(function* () {
      if (before) yield* Producer.publish(Log, "before")
      yield* Producer.publish(Log, "rolled back").pipe(
        Effect.andThen(Effect.fail("no")),
        lab.sql.withTransaction,
        Effect.exit
      )
      yield* Producer.publish(Log, "after")
    })

  for (const before of [false, true]) {
    it.effect(
      `a savepoint that rolls back its lock is noticed (${before ? "locked before it" : "first locked in it"})`,
      () =>
        inLab((lab) =>
          Effect.gen(function* () {
            yield* lab.publish("first")
            const late = yield* lab.open(withSavepoint(lab, before))
            yield* lab.publish("early")
            assert.deepStrictEqual(yield* lab.read, ["first"])
            yield* late.commit
            assert.deepStrictEqual(yield* lab.read, ["first", ...(before ? ["before"] : []), "after", "early"])
          })
        )
    )
  }

  it.effect("remembered elsewhere than in the transaction, the lock is missed: the test can fail", () =>
    inLab((lab) =>
      Effect.gen(function* () {
        yield* lab.publish("first")
        const late = yield* lab.open(
          Effect.gen(function* () {
            yield* Producer.publish(Log, "rolled back").pipe(
              Effect.andThen(Effect.fail("no")),
              lab.sql.withTransaction,
              Effect.exit
            )
            // What a client-side memory would still believe.
            yield* lab.sql`SELECT set_config('surety.horizon', ',' || ${lab.sequence}::regclass::oid || ',', true)`
            yield* Producer.publish(Log, "late")
          })
        )
        yield* lab.publish("early")
        assert.deepStrictEqual(yield* lab.read, ["first", "early"])
        yield* late.commit
      })
    )
  )
})

describe("rule 3: publishers do not wait for each other", () => {
  const scenario = (lab: LabService) =>
    Effect.gen(function* () {
      const first = yield* lab.open(publish("first"), "BEGIN")
      const second = yield* lab.open(
        Effect.andThen(lab.sql`SET LOCAL lock_timeout = '100ms'`, publish("second")),
        "BEGIN"
      )
      yield* second.commit
      yield* first.commit
      return yield* lab.read
    })

  it.effect("in open transactions that read the same last value", () =>
    inLab((lab) =>
      Effect.gen(function* () {
        // Both have read it before either draws: the second one's lock is the same.
        const key = yield* lab.sql<{
          key: number
        }>`SELECT ${lab.sequence}::regclass::oid::bigint::bit(32)::integer AS key`
        const other = yield* lab.open(lab.sql`SELECT pg_advisory_xact_lock_shared(${key[0]!.key}, 0)`)
        assert.deepStrictEqual(yield* scenario(lab), [])
        yield* other.commit
        assert.deepStrictEqual(yield* lab.read, ["first", "second"])
      })
    )
  )

  it.effect("with an exclusive lock they do: the test can fail", () =>
    inLab((lab) =>
      Effect.gen(function* () {
        yield* lab.switchOff("hold_horizon", "pg_advisory_xact_lock_shared", "pg_advisory_xact_lock")
        const key = yield* lab.sql<{
          key: number
        }>`SELECT ${lab.sequence}::regclass::oid::bigint::bit(32)::integer AS key`
        yield* lab.open(lab.sql`SELECT pg_advisory_xact_lock_shared(${key[0]!.key}, 0)`)
        const error = yield* Effect.flip(
          Effect.andThen(lab.sql`SET LOCAL lock_timeout = '100ms'`, publish("second")).pipe(lab.sql.withTransaction)
        )
        assert.strictEqual(error._tag, "PublishError")
      })
    )
  )
})

describe("rule 4: the lock's key", () => {
  for (const last of [2 ** 31 - 2, 2 ** 31, 2 ** 32 - 2, 2 ** 32, 2 ** 53 - 100]) {
    it.effect(`holds back at offset ${last}`, () =>
      inLab((lab) =>
        Effect.gen(function* () {
          yield* lab.sql`SELECT setval(${lab.sequence}::regclass, ${last}::bigint)`
          const late = yield* lab.open(publish("late"))
          yield* lab.publish("early 1", "early 2", "early 3")
          assert.deepStrictEqual(yield* lab.read, [])
          yield* late.commit
          assert.deepStrictEqual(yield* lab.read, ["late", "early 1", "early 2", "early 3"])
        })
      )
    )
  }

  /** A lock of the same key, far below, in another database. */
  const elsewhere = (lab: LabService) =>
    Effect.gen(function* () {
      const { createDatabase } = yield* TestPostgres.TestPostgres
      const { url } = yield* createDatabase()
      const other = yield* PgClient.make({ url })
      const key = yield* lab.sql<{
        key: number
      }>`SELECT ${lab.sequence}::regclass::oid::bigint::bit(32)::integer AS key`
      const connection = yield* other.reserve
      yield* connection.execute("SELECT pg_advisory_lock_shared($1, 0)", [key[0]!.key], undefined)
      yield* lab.publish("one")
      return yield* lab.read
    }).pipe(Effect.scoped, Effect.provide(Layer.merge(TestPostgres.layer, Reactivity.layer)))

  it.effect("locks of other databases hold nothing back", () =>
    inLab((lab) => Effect.map(elsewhere(lab), (read) => assert.deepStrictEqual(read, ["one"])))
  )

  it.effect("they would, unless told apart: the test can fail", () =>
    inLab((lab) =>
      Effect.gen(function* () {
        yield* lab.switchOff("horizon", "AND l.database =", "AND 0 <>")
        assert.deepStrictEqual(yield* elsewhere(lab), [])
      })
    )
  )
})

describe("rule 5: a sequence that would make messages invisible", () => {
  const declared = Effect.gen(function* () {
    // Another process: what this one has checked already, it does not check again.
    return yield* Effect.flatMap(Transport.Transport, (transport) => transport.declare(Topic.declaration(Log)))
  }).pipe(Effect.provide(Layer.fresh(PgTransport.layer)), Effect.provide(PgSchema.layer))

  const repaired = Effect.provide(PgTransport.repair("log"), PgSchema.layer)

  const damages: Record<string, (lab: LabService) => Effect.Effect<unknown, unknown>> = {
    "with a cache": (lab) => lab.sql.unsafe(`ALTER SEQUENCE ${lab.sequence} CACHE 20`),
    "that cycles": (lab) => lab.sql.unsafe(`ALTER SEQUENCE ${lab.sequence} CYCLE`),
    "behind its log": (lab) => lab.sql`SELECT setval(${lab.sequence}::regclass, 1)`,
    "that was restarted": (lab) => lab.sql.unsafe(`ALTER SEQUENCE ${lab.sequence} RESTART`)
  }
  for (const [name, damage] of Object.entries(damages)) {
    it.effect(`${name} is refused with a typed error, and repaired`, () =>
      inLab((lab) =>
        Effect.gen(function* () {
          yield* lab.publish("one", "two", "three")
          yield* damage(lab)
          const error = yield* Effect.flip(declared)
          assert.strictEqual(error._tag, "TransportError")
          assert.strictEqual((error as TransportError).reason._tag, "InvalidState")
          assert.include(error.message, "PgTransport.repair")
          yield* repaired
          yield* declared
          yield* lab.publish("four")
          assert.deepStrictEqual(yield* lab.read, ["one", "two", "three", "four"])
        })
      )
    )
  }

  it.effect("behind a cursor is refused too, where the log was emptied", () =>
    inLab((lab) =>
      Effect.gen(function* () {
        yield* lab.publish("one", "two")
        yield* lab.read
        yield* lab.sql`TRUNCATE surety.log`
        yield* lab.sql.unsafe(`ALTER SEQUENCE ${lab.sequence} RESTART`)
        assert.include((yield* Effect.flip(declared)).message, "behind")
      })
    )
  )
})

describe("rule 7: where a group starts", () => {
  const scenario = (lab: LabService) =>
    Effect.gen(function* () {
      const transport = yield* Transport.Transport
      yield* lab.publish("before")
      const late = yield* lab.open(publish("late"))
      yield* lab.publish("early")
      yield* Effect.scoped(
        transport.subscribe({ topic: Topic.declaration(Log), group: "newcomers", startFrom: "latest" })
      )
      yield* late.commit
      const [cursor] = yield* lab.sql<{ settled: bigint }>`SELECT c.settled FROM surety.cursor c
        JOIN surety.consumer_group g ON g.id = c.consumer_group WHERE g.name = 'newcomers'`
      return (yield* lab.readAfter(Number(cursor!.settled))).map(({ id }) => id)
    })

  it.effect("latest is the horizon: what was published late is not skipped", () =>
    inLab((lab) => Effect.map(scenario(lab), (read) => assert.deepStrictEqual(read, ["late", "early"])))
  )

  it.effect("the end of the sequence skips it: the test can fail", () =>
    inLab((lab) =>
      Effect.gen(function* () {
        yield* lab.switchOff(
          "register_group",
          '"surety".horizon(p_topic)',
          "pg_sequence_last_value(surety.topic_sequence(p_topic)::regclass)"
        )
        assert.deepStrictEqual(yield* scenario(lab), [])
      })
    )
  )
})

describe("rules 8 and 9: order", () => {
  const texts = Array.from({ length: 300 }, (_, index) => `message ${index}`)

  it.effect("is the order of the array", () =>
    inLab((lab) =>
      Effect.gen(function* () {
        yield* lab.publish(...texts)
        assert.deepStrictEqual(yield* lab.read, texts)
      })
    )
  )

  it.effect("is lost without an order in the INSERT: the test can fail", () =>
    inLab((lab) =>
      Effect.gen(function* () {
        yield* lab.switchOff("publish", "ORDER BY u.ord", "ORDER BY u.id")
        yield* lab.publish(...texts)
        assert.notDeepEqual(yield* lab.read, texts)
      })
    )
  )
})
