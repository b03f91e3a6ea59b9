/**
 * A process that is killed before and after each statement that it sends, COMMIT
 * among them, and replaced by another one: what is acknowledged is stored, what
 * is handled is handled once, and nothing is both handled and dead-lettered.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import { Consumer, DeadLetters, Producer } from "@surety/core"
import * as SuretyPg from "@surety/pg/SuretyPg"
import * as CrashPoints from "@surety/testing/CrashPoints"
import { Console, Data, Effect, Layer } from "effect"
import {
  dead,
  effect,
  handled,
  inDatabase,
  type Note,
  note,
  Out,
  outcome,
  TestDatabase,
  until,
  value,
  values,
  Work
} from "./support/nodes.ts"

class Refused extends Data.TaggedError("Refused") {}

/** One process on the test's database. */
const process = SuretyPg.layer.pipe(
  Layer.provide(
    PgClient.layerFrom(
      Effect.gen(function* () {
        const { url } = yield* TestDatabase
        return yield* PgClient.make({
          url,
          applicationName: "app",
          maxConnections: 1,
          stream: yield* CrashPoints.stream(url)
        })
      })
    )
  )
)

/** The sessions of a process that is gone have ended, and its lease expires. */
const down = Effect.all([
  until(
    "its sessions have ended",
    value<boolean>(
      `SELECT bool_and(state = 'idle') AS value FROM pg_stat_activity
      WHERE datname = current_database() AND application_name LIKE 'app%'`
    )
  ),
  values("UPDATE surety.lease SET expires_at = '-infinity'"),
  values("UPDATE surety.member SET alive_until = '-infinity'")
])

const settled = () =>
  until(
    "all is settled",
    value<boolean>(
      `SELECT NOT EXISTS (SELECT FROM surety.log l JOIN surety.consumer_group g ON g.topic = l.topic
        JOIN surety.cursor c ON c.consumer_group = g.id AND c.partition = l.partition
        WHERE l.log_offset > c.settled) AND NOT EXISTS (SELECT FROM surety.redelivery) AS value`
    )
  )

const handle = Effect.fnUntraced(function* ({ id }: Note) {
  yield* effect(id)
  yield* Effect.orDie(Producer.publish(Out, id))
})

/** The first run declares the topic, and registers the group, once and for all. */
const report = (what: string, { moments, pairs, points }: CrashPoints.Report) =>
  Effect.andThen(
    Effect.sync(() => assert.isAbove(points, 0.6 * moments.length)),
    Console.log(`${what}: ${points} points, ${pairs} pairs of ${moments.length} moments`)
  )

/** A machine that is busy takes its time. */
const timeout = 300_000

describe.concurrent("a process that crashes before and after each of its statements", () => {
  it.live(
    "a publish: what is acknowledged is stored",
    () =>
      inDatabase(
        Effect.gen(function* () {
          const acknowledged = new Set<string>()
          const done = yield* CrashPoints.enumerate({
            process,
            flow: ({ id }) =>
              Effect.andThen(
                Producer.publish(Work, note(id)),
                Effect.sync(() => acknowledged.add(id))
              ),
            check: ({ id }) =>
              Effect.gen(function* () {
                assert.isTrue(acknowledged.has(id))
                const copies = yield* value<number>(
                  "SELECT count(*)::integer AS value FROM surety.log WHERE id = $1",
                  id
                )
                assert.include([1, 2, 3], copies)
              })
          })
          yield* report("publish", done)
          assert.isAbove(done.pairs, 0)
        })
      ),
    timeout
  )

  it.live(
    "a message that is published, and handled exactly once",
    () =>
      inDatabase(
        Effect.gen(function* () {
          const done = yield* CrashPoints.enumerate({
            process,
            down,
            flow: ({ id }) =>
              Effect.andThen(
                Producer.publish(Work, note(id)),
                Layer.build(Consumer.layer(Consumer.make(Work, { group: "workers", handler: handle })))
              ),
            settled,
            check: ({ id }) => Effect.map(outcome(id), (ended) => assert.strictEqual(ended, handled)),
            pairs: 0
          })
          yield* report("consume", done)
        })
      ),
    timeout
  )

  it.live(
    "a batch with a message that is refused",
    () =>
      inDatabase(
        Effect.gen(function* () {
          const work = Consumer.makeBatch(Work, {
            group: "workers",
            handler: Effect.fnUntraced(function* (messages) {
              yield* Effect.forEach(messages, ({ payload }) => handle(payload))
              if (messages.some(({ id }) => id.endsWith("poison"))) return yield* new Refused()
            })
          }).pipe(Consumer.orDeadLetter, Consumer.layer)
          const done = yield* CrashPoints.enumerate({
            process,
            down,
            flow: ({ id }) =>
              Effect.andThen(Producer.publishAll(Work, [note(`${id}-a`), note(`${id}-poison`)]), Layer.build(work)),
            settled,
            check: ({ id }) =>
              Effect.gen(function* () {
                assert.deepStrictEqual(yield* Effect.forEach([`${id}-a`, `${id}-poison`], outcome), [handled, dead])
              }),
            pairs: 0
          })
          yield* report("batch", done)
        })
      ),
    timeout
  )

  it.live(
    "a redrive: a dead letter is handled once",
    () =>
      inDatabase(
        Effect.gen(function* () {
          const healed = new Set<string>()
          const work = Consumer.make(Work, {
            group: "workers",
            handler: (payload: Note) =>
              Effect.andThen(handle(payload), healed.has(payload.id) ? Effect.void : new Refused())
          }).pipe(Consumer.orDeadLetter, Consumer.layer)
          const done = yield* CrashPoints.enumerate({
            process,
            down,
            flow: Effect.fnUntraced(function* ({ id }) {
              const letters = yield* DeadLetters.DeadLetters
              yield* Layer.build(work)
              if (!healed.has(id)) {
                yield* Producer.publish(Work, note(id))
                yield* until(
                  `${id} is dead`,
                  Effect.map(outcome(id), (ended) => ended === dead)
                )
                healed.add(id)
              }
              yield* letters.redrive({ group: "workers", id })
            }),
            settled,
            check: ({ id }) => Effect.map(outcome(id), (ended) => assert.strictEqual(ended, handled)),
            pairs: 0
          })
          yield* report("redrive", done)
        })
      ),
    timeout
  )

  it.live(
    "without the inbox's memory a message is handled twice: the test can fail",
    () =>
      inDatabase(
        Effect.gen(function* () {
          const error = yield* CrashPoints.enumerate({
            process,
            down,
            flow: ({ id }) =>
              Effect.andThen(
                Producer.publish(Work, note(id)),
                Layer.build(
                  Consumer.layer(
                    Consumer.make(Work, {
                      group: "workers",
                      handler: (payload: Note) =>
                        Effect.andThen(handle(payload), Effect.orDie(values("DELETE FROM surety.inbox")))
                    })
                  )
                )
              ),
            settled,
            check: ({ id }) => Effect.map(outcome(id), (ended) => assert.match(ended, /^1 1 0/)),
            pairs: 0
          }).pipe(Effect.flip)
          assert.match(error.message, /^a crash (before|after) .*: expected '2 2 0/)
        })
      ),
    timeout
  )
})
