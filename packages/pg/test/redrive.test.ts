/** Dead letters on tables: redriven once, in batches, by way of the inbox. */
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import { Consumer, DeadLetters, Producer, Topic, Transport } from "@surety/core"
import * as SuretyPg from "@surety/pg/SuretyPg"
import * as TestPostgres from "@surety/testing/TestPostgres"
import { Effect, Layer, Option, Schedule, Schema, Stream } from "effect"
import * as SqlClient from "effect/sql/SqlClient"

class Broken extends Schema.TaggedError<Broken>()("Broken", {}) {}

const live = SuretyPg.layer.pipe(Layer.provideMerge(TestPostgres.layerClient), Layer.provide(TestPostgres.layer))

const Orders = Topic.make("orders", {
  schema: Schema.String,
  guarantee: "exactly-once",
  id: (text) => text,
  key: (text) => text.slice(0, 1),
  partitions: 2
})

const drained = Effect.flatMap(Transport.Transport, (transport) =>
  Effect.repeat(transport.progress("orders", "readers"), {
    schedule: Schedule.spaced("20 millis"),
    until: (progress) => progress.every(({ lag }) => lag === 0)
  })
)

let broken = true
const consumer = Consumer.make(Orders, {
  group: "readers",
  handler: Effect.fn(function* (id, { attempt }) {
    const sql = yield* SqlClient.SqlClient
    yield* sql`INSERT INTO applied (id, attempt) VALUES (${id}, ${attempt})`
    if (broken) return yield* new Broken()
  })
}).pipe(Consumer.deadLetter("Broken"), Consumer.orDeadLetter, Consumer.layer)

/** Ids that differ only far behind what an index entry holds. */
const texts = Array.from({ length: 220 }, (_, index) => `${index % 7}${"x".repeat(index % 2 === 0 ? 3000 : 1)}${index}`)

describe("redrive", () => {
  it.live("applies each message once, whatever runs beside it", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const deadLetters = yield* DeadLetters.DeadLetters
      yield* sql`CREATE TABLE applied (id text, attempt integer)`
      yield* Producer.publishAll(Orders, texts)
      broken = true
      yield* Effect.scoped(Effect.andThen(Layer.build(consumer), drained))
      const letters = yield* Stream.runCollect(deadLetters.list({ topic: "orders", tag: "Broken" }))
      assert.strictEqual(letters.length, texts.length)
      assert.deepStrictEqual(letters.map(({ record }) => record.id).sort(), [...texts].sort())
      assert.deepStrictEqual(yield* sql`SELECT * FROM applied`, [])

      const [first] = letters
      const { offset, partition } = first!.record
      const found = yield* deadLetters.get({ topic: "orders", group: "readers", partition, offset })
      assert.deepStrictEqual(Option.getOrThrow(found), first)

      broken = false
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* Layer.build(consumer)
          // Duplicates of what is being redriven, and two redrives at once.
          const [one, two] = yield* Effect.all(
            [deadLetters.redrive({ group: "readers" }), deadLetters.redrive(), Producer.publishAll(Orders, texts)],
            { concurrency: "unbounded" }
          )
          assert.strictEqual(one + two, texts.length)
          yield* drained
        })
      )
      const applied = yield* sql<{ id: string; attempt: number }>`SELECT id, attempt FROM applied`
      assert.deepStrictEqual(applied.map(({ id }) => id).sort(), [...texts].sort())
      assert.isTrue(applied.every(({ attempt }) => attempt === 1))
      assert.deepStrictEqual(yield* Stream.runCollect(deadLetters.list()), [])
      assert.deepStrictEqual(yield* sql`SELECT DISTINCT outcome FROM surety.inbox`, [{ outcome: "handled" }])
    }).pipe(Effect.provide(live))
  )

  it.live("purges in batches, and the group goes on refusing the ids", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const deadLetters = yield* DeadLetters.DeadLetters
      yield* sql`CREATE TABLE applied (id text, attempt integer)`
      yield* Producer.publishAll(Orders, texts)
      broken = true
      yield* Effect.scoped(Effect.andThen(Layer.build(consumer), drained))
      assert.strictEqual(yield* deadLetters.purge({ before: 0 }), 0)
      assert.strictEqual(yield* deadLetters.purge({ group: "readers" }), texts.length)
      assert.strictEqual(yield* deadLetters.redrive(), 0)
      broken = false
      yield* Producer.publishAll(Orders, texts)
      yield* Effect.scoped(Effect.andThen(Layer.build(consumer), drained))
      assert.deepStrictEqual(yield* sql`SELECT * FROM applied`, [])
    }).pipe(Effect.provide(live))
  )

  for (const what of ["redrive", "purge"] as const) {
    it.live(`${what} goes on with the rest where another run has some in hand`, () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const deadLetters = yield* DeadLetters.DeadLetters
        yield* sql`CREATE TABLE applied (id text, attempt integer)`
        yield* Producer.publishAll(Orders, texts)
        broken = true
        yield* Effect.scoped(Effect.andThen(Layer.build(consumer), drained))
        const others = yield* sql<{ id: string }>`
          SELECT id FROM surety.dead_letter ORDER BY partition, log_offset LIMIT 105 FOR UPDATE`.pipe(
          Effect.tap(() => Effect.map(deadLetters[what](), (count) => assert.strictEqual(count, texts.length - 105))),
          sql.withTransaction
        )
        const left = yield* Stream.runCollect(deadLetters.list())
        assert.deepStrictEqual(
          left.map(({ record }) => record.id),
          others.map(({ id }) => id)
        )
      }).pipe(Effect.provide(live))
    )
  }
})
