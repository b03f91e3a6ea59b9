/**
 * Behind PgBouncer in transaction mode: each transaction may run on another
 * session, so that nothing may be left on one.
 */
import { assert, describe, it } from "@effect/vitest"
import { Consumer, DeadLetters, Producer } from "@surety/core"
import { Effect, Schedule, Schema } from "effect"
import * as SqlClient from "effect/sql/SqlClient"
import {
  effect,
  effects,
  inDatabase,
  type Note,
  note,
  settled,
  start,
  TestDatabase,
  until,
  value,
  Work
} from "./support/nodes.ts"
import * as PgBouncer from "./support/pgBouncer.ts"

class Broken extends Schema.TaggedError<Broken>()("Broken", {}) {}

if (PgBouncer.missing !== undefined) console.info(`skipped: ${PgBouncer.missing}`)

/** A database that processes see through a PgBouncer, but for the session that looks on. */
const behind = <A, E, R>(body: Effect.Effect<A, E, R>) =>
  inDatabase(
    Effect.gen(function* () {
      const direct = yield* TestDatabase
      const url = yield* PgBouncer.start(direct.url)
      return yield* Effect.provideService(body, TestDatabase, TestDatabase.of({ url }))
    })
  )

describe.skipIf(PgBouncer.missing !== undefined)("behind PgBouncer in transaction mode", { concurrent: true }, () => {
  it.live("migrates, publishes in transactions and alone, retries, dead-letters, redrives and delays", () =>
    behind(
      Effect.gen(function* () {
        const options = { pollInterval: "50 millis", client: { prepare: false } } as const
        const node = yield* start(options)
        const other = yield* start(options)
        let broken = true
        const consumer = Consumer.make(Work, {
          group: "workers",
          handler: ({ body, id }: Note, { attempt }) =>
            Effect.andThen(
              effect(id, `${attempt}`),
              (body === "once" && attempt === 1) || (body === "bad" && broken) ? new Broken() : Effect.void
            )
        }).pipe(
          Consumer.retry("Broken", Schedule.spaced("10 millis").pipe(Schedule.upTo({ times: 1 }))),
          Consumer.orDeadLetter
        )
        yield* node.consume(consumer)
        yield* other.consume(consumer)
        yield* Effect.forEach(
          Array.from({ length: 40 }, (_, index) => `m${index}`),
          (id) => node.publish(note(id)),
          { concurrency: 8, discard: true }
        )
        yield* node.run(
          Effect.flatMap(SqlClient.SqlClient, (sql) =>
            sql.withTransaction(
              Effect.andThen(
                effect("business"),
                Producer.publishAll(Work, [note("inside"), note("fails", { body: "once" })])
              )
            )
          )
        )
        yield* node.run(Producer.publish(Work, note("later"), { delay: "50 millis" }))
        yield* node.publish(note("bad", { body: "bad" }))
        yield* settled(44)
        broken = false
        assert.strictEqual(yield* node.run(Effect.flatMap(DeadLetters.DeadLetters, ({ redrive }) => redrive())), 1)
        yield* until(
          "what was redriven is handled",
          Effect.map(effects, (all) => all.includes("bad"))
        )
        const all = yield* effects
        assert.strictEqual(all.length, 45)
        assert.strictEqual(new Set(all).size, 45)
        // Nothing is left on a session that another process is given next.
        yield* until(
          "no transaction and no lock is left",
          value<boolean>(
            `SELECT NOT EXISTS (
              SELECT FROM pg_stat_activity WHERE application_name LIKE 'app%' AND state LIKE 'idle in transaction%'
            ) AND NOT EXISTS (
              SELECT FROM pg_locks WHERE locktype = 'advisory'
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            ) AS value`
          )
        )
      })
    )
  )
})
