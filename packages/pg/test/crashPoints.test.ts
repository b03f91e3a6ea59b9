/**
 * A process that is killed before and after each statement that it sends, COMMIT
 * among them, and replaced by another one: what is acknowledged is stored, what
 * is handled is handled once, and nothing is both handled and dead-lettered.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import { Consumer, DeadLetters, MemoryStore, Producer, Transport } from "@surety/core"
import * as PgSchema from "@surety/pg/PgSchema"
import * as SuretyPg from "@surety/pg/SuretyPg"
import * as CrashPoints from "@surety/testing/CrashPoints"
import { Console, Data, Effect, Layer } from "effect"
import * as SqlClient from "effect/sql/SqlClient"
import { recordsOf } from "./support/across.ts"
import {
  dead,
  effect,
  handled,
  inDatabase,
  type Note,
  note,
  notes,
  Out,
  outcome,
  TestDatabase,
  until,
  value,
  values,
  Work
} from "./support/nodes.ts"

class Refused extends Data.TaggedError("Refused") {}

const client = PgClient.layerFrom(
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

/** One process on the test's database. */
const process = SuretyPg.layer.pipe(Layer.provide(client))

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

/** The steps that a flow is about: each of them is met. Others come less often in a later run, whose topic and group are there. */
const report = (
  what: string,
  { missed, moments, pairs, points }: CrashPoints.Report,
  steps: ReadonlyArray<string> = ["COMMIT"]
) =>
  Effect.gen(function* () {
    for (const when of ["before ", "after "]) {
      for (const step of steps) {
        // The first one: a lease that is lost on a busy machine makes for more of them.
        const first = moments.find((moment) => moment.startsWith(when + step))
        assert.isDefined(first, `${when}${step}`)
        assert.notInclude(missed, first)
      }
    }
    yield* Console.log(`${what}: ${points} points, ${pairs} pairs of ${moments.length} moments`)
  })

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
          yield* report("publish", done, ['INSERT INTO "surety".log'])
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

  /** A debit and its credit, through a broker that outlives the processes, and whose operations are steps as well. */
  const across = Effect.fnUntraced(function* (
    inbox: Effect.Effect<unknown, never, SqlClient.SqlClient>,
    at?: (moment: string) => boolean
  ) {
    const observer = yield* SqlClient.SqlClient
    const observed = Effect.provideService(SqlClient.SqlClient, observer)
    const Transfers = notes({ name: "transfers" })
    const credit = Consumer.make(Transfers, {
      group: "credit",
      batchSize: 1,
      handler: ({ id }: Note) => Effect.andThen(effect(`credit ${id}`), inbox)
    })
    const effectsOf = (id: string) =>
      values<string>("SELECT id AS value FROM effect WHERE id LIKE concat('% ', $1::text) ORDER BY id", id)
    const debit = Effect.fnUntraced(function* (id: string) {
      if ((yield* effectsOf(id)).includes(`debit ${id}`)) return
      yield* effect(`debit ${id}`)
      yield* Producer.publish(Transfers, note(id))
    })
    const sent = Effect.map(MemoryStore.MemoryStore, (store) => recordsOf(store, "transfers"))
    return yield* CrashPoints.enumerate({
      process: Layer.merge(
        Transport.layerMemory,
        PgSchema.layerWith({ pollInterval: "100 millis" }).pipe(Layer.provideMerge(client))
      ),
      down: observed(down),
      flow: ({ id }) =>
        Effect.gen(function* () {
          // Not a layer of the process, or the one that looks on would send, too.
          const services = yield* Layer.build(SuretyPg.layerAcross({ shards: 1 }))
          const sql = yield* SqlClient.SqlClient
          yield* Effect.provideContext(sql.withTransaction(debit(id)), services)
          yield* Effect.provideContext(Layer.build(Consumer.layer(credit)), services)
        }),
      settled: ({ id }) =>
        Effect.gen(function* () {
          yield* until(
            "it is credited",
            Effect.map(effectsOf(id), (effects) => effects.includes(`credit ${id}`))
          )
          yield* settled()
          const progress = value<string>(
            `SELECT c.settled AS value FROM surety.cursor c JOIN surety.consumer_group g ON g.id = c.consumer_group
            WHERE g.name = 'credit'`
          )
          yield* until(
            "every copy is settled",
            Effect.zipWith(progress, sent, (settled, sent) => Number(settled) === sent.at(-1)?.offset)
          )
        }).pipe(observed),
      check: ({ id }) =>
        Effect.gen(function* () {
          assert.strictEqual((yield* effectsOf(id)).join(", "), `credit ${id}, debit ${id}`)
          const copies = (yield* sent).filter((record) => record.id === id)
          assert.include([1, 2], copies.length)
        }).pipe(observed),
      at,
      pairs: 0
    }).pipe(Effect.provideService(MemoryStore.CurrentOptions, { lease: "300 millis" }))
  })

  it.live(
    "a relay: what a transaction publishes to another system is handled there once",
    () =>
      inDatabase(
        Effect.gen(function* () {
          const done = yield* across(Effect.void)
          yield* report("relay", done, ["COMMIT", "publish of transfers", "WITH passed", "settle of transfers"])
        })
      ),
    timeout
  )

  it.live(
    "a relay sends again what it may have sent: without the inbox's memory it is handled twice",
    () =>
      inDatabase(
        Effect.gen(function* () {
          const error = yield* across(
            Effect.orDie(values("DELETE FROM surety.inbox")),
            (moment) => moment === "after publish of transfers"
          ).pipe(Effect.flip)
          assert.match(error.message, /^a crash after publish of transfers: expected 'credit run-2, credit/)
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
