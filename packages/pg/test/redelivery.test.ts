/** Durable redelivery on tables: in order per key, with the effects and the outbox once, and found by a later process. */
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import { Consumer, Producer, Topic, Transport } from "@surety/core"
import * as SuretyPg from "@surety/pg/SuretyPg"
import * as TestPostgres from "@surety/testing/TestPostgres"
import { Deferred, Effect, Layer, Queue, Schedule, Schema } from "effect"
import * as SqlClient from "effect/sql/SqlClient"

class Busy extends Schema.TaggedError<Busy>()("Busy", {}) {}

const live = SuretyPg.layer.pipe(Layer.provideMerge(TestPostgres.layerClient), Layer.provide(TestPostgres.layer))

const Replies = Topic.make("replies", { schema: Schema.String, guarantee: "exactly-once", partitions: 1 })

const drained = Effect.flatMap(Transport.Transport, (transport) =>
  Effect.repeat(transport.progress("orders", "readers"), {
    schedule: Schedule.spaced("20 millis"),
    until: (progress) => progress.every(({ lag }) => lag === 0)
  })
)

for (const guarantee of ["at-least-once", "exactly-once"] as const) {
  const Orders = Topic.make("orders", {
    schema: Schema.String,
    guarantee,
    key: (text) => text[0],
    partitions: 1
  })

  describe(`a late retry, ${guarantee}`, () => {
    it.live("is kept in a table until it is due, and its key waits behind it", () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        yield* sql`CREATE TABLE applied (position integer GENERATED ALWAYS AS IDENTITY, id text, attempt integer)`
        const consumer = Consumer.make(Orders, {
          group: "readers",
          concurrency: 4,
          redeliverAfter: 0,
          handler: Effect.fn(function* (id, envelope) {
            const client = yield* SqlClient.SqlClient
            yield* client`INSERT INTO applied (id, attempt) VALUES (${id}, ${envelope.attempt})`
            if (guarantee === "exactly-once") yield* Producer.publish(Replies, id)
            if (id === "a1" && envelope.attempt < 4) return yield* new Busy()
          })
        }).pipe(Consumer.retry(Schedule.spaced("20 millis")), Consumer.orDeadLetter)
        const texts = ["a1", "b1", "a2", "b2", "a3", "ü1", "a4"]
        yield* Producer.publishAll(Orders, texts)
        yield* Effect.scoped(Effect.andThen(Layer.build(Consumer.layer(consumer)), drained))

        const applied = yield* sql<{ id: string; attempt: number }>`SELECT id, attempt FROM applied ORDER BY position`
        const a = applied.filter(({ id }) => id.startsWith("a")).map(({ attempt, id }) => `${id}#${attempt}`)
        if (guarantee === "exactly-once") {
          assert.deepStrictEqual(a, ["a1#4", "a2#1", "a3#1", "a4#1"])
          const [replies] = yield* sql<{ count: bigint }>`SELECT count(*) FROM surety.log l
            JOIN surety.topic t ON t.id = l.topic WHERE t.name = 'replies'`
          assert.strictEqual(Number(replies!.count), texts.length)
        } else {
          assert.deepStrictEqual(a, ["a1#1", "a1#2", "a1#3", "a1#4", "a2#1", "a3#1", "a4#1"])
        }
        assert.deepStrictEqual(yield* sql`SELECT * FROM surety.redelivery`, [])
        assert.deepStrictEqual(yield* sql`SELECT * FROM surety.attempt`, [])
      }).pipe(Effect.provide(live))
    )

    it.live("is found by a later process, with its bytes, although the log was trimmed", () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const seen = yield* Queue.unbounded<string>()
        const failed = yield* Deferred.make<void>()
        const consumer = Consumer.make(Orders, {
          group: "readers",
          redeliverAfter: 0,
          handler: (id, { attempt }) =>
            id === "a1" && attempt === 1
              ? Effect.andThen(Deferred.succeed(failed, undefined), new Busy())
              : Queue.offer(seen, `${id}#${attempt}`)
        }).pipe(Consumer.retry(Schedule.spaced("1 hour")), Consumer.orDeadLetter, Consumer.layer)
        yield* Producer.publishAll(Orders, ["a1", "a2 \u{1F600}"])
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* Layer.build(consumer)
            yield* Deferred.await(failed)
            yield* Effect.repeat(sql<{ count: bigint }>`SELECT count(*) FROM surety.redelivery`, {
              until: ([row]) => row!.count === 2n
            })
          })
        )
        yield* sql`DELETE FROM surety.log`
        yield* sql`UPDATE surety.redelivery SET due_at = now() WHERE due_at IS NOT NULL`
        yield* Effect.scoped(Effect.andThen(Layer.build(consumer), drained))
        assert.deepStrictEqual(yield* Queue.takeAll(seen), ["a1#2", "a2 \u{1F600}#1"])
      }).pipe(Effect.provide(live))
    )
  })
}
