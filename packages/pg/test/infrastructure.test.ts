/**
 * POSTGRES.md, rules 16 and 23: what the database refuses is repeated, and is
 * nobody's attempt; and what it must be set to, or need not be.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import { Consumer, type Envelope, Guarantee, Producer } from "@surety/core"
import { Data, Deferred, Effect, Exit, Fiber, Layer, Redacted } from "effect"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as SqlClient from "effect/sql/SqlClient"
import { ConnectionError, DeadlockError, SerializationError, SqlError } from "effect/sql/SqlError"
import {
  type ClientOptions,
  changeFunction,
  cutOffMembers,
  deadLetters,
  effect,
  effects,
  holding,
  inbox,
  inDatabase,
  layerNode,
  type Note,
  note,
  notes,
  settled,
  start,
  until,
  value,
  values,
  waiting
} from "./support/nodes.ts"

/** Ids are spread over two partitions, so that two transactions run at once. */
const Spread = notes({ partitions: 2 })
const one = note("m1", { key: "0" })
const two = note("m2", { key: "1" })

const rowsToLock = Effect.gen(function* () {
  yield* values("CREATE TABLE account (id text PRIMARY KEY, balance integer NOT NULL)")
  yield* values("INSERT INTO account VALUES ('m1', 0), ('m2', 0)")
})

/** How a handler may hand on what went wrong. */
class Wrapped extends Data.TaggedError("Wrapped")<{ readonly cause: unknown }> {}
type HandOn = <A>(
  self: Effect.Effect<A, unknown, SqlClient.SqlClient>
) => Effect.Effect<A, unknown, SqlClient.SqlClient>
const ways: Readonly<Record<string, HandOn>> = {
  "as it is": (self) => self,
  "as the cause of its own error": (self) => Effect.mapError(self, (cause) => new Wrapped({ cause })),
  "as a defect": (self) => Effect.orDie(self),
  "from a nested transaction": (self) => Effect.flatMap(SqlClient.SqlClient, (sql) => sql.withTransaction(self))
}

/** No failure was counted, and each message was settled by the first attempt. */
const uncounted = Effect.gen(function* () {
  assert.deepStrictEqual(yield* deadLetters, [])
  assert.deepStrictEqual(yield* values("SELECT failures AS value FROM surety.attempt WHERE failures > 0"), [])
  assert.deepStrictEqual(yield* values("SELECT DISTINCT note AS value FROM effect"), ["attempt 1"])
})

describe("rule 16: no attempt is counted", () => {
  for (const [how, pass] of Object.entries(ways)) {
    it.live(`for deadlocks, handed on ${how}`, () =>
      inDatabase(
        Effect.gen(function* () {
          const node = yield* start()
          yield* rowsToLock
          const touch = (id: string) => values("UPDATE account SET balance = balance + 1 WHERE id = $1", id)
          const both = Deferred.makeUnsafe<void>()
          let first = 0
          let runs = 0
          yield* node.consume(
            Consumer.make(Spread, {
              group: "workers",
              concurrency: 2,
              handler: ({ id }: Note, { attempt }) =>
                Effect.gen(function* () {
                  runs++
                  yield* effect(id, `attempt ${attempt}`)
                  yield* touch(id)
                  if (++first === 2) yield* Deferred.succeed(both, undefined)
                  yield* Deferred.await(both)
                  yield* touch(id === "m1" ? "m2" : "m1")
                }).pipe(pass)
            }).pipe(Consumer.orDeadLetter)
          )
          yield* node.run(Producer.publishAll(Spread, [one, two]))
          yield* settled(2)
          assert.deepStrictEqual((yield* effects).toSorted(), ["m1", "m2"])
          assert.deepStrictEqual(yield* values("SELECT balance AS value FROM account"), [2, 2])
          assert.isAtLeast(runs, 3)
          yield* uncounted
        })
      )
    )

    it.live(`for serialization failures, handed on ${how}`, () =>
      inDatabase(
        Effect.gen(function* () {
          const client: ClientOptions = { startupParameters: { default_transaction_isolation: "repeatable read" } }
          const node = yield* start({ client })
          yield* rowsToLock
          const read = Deferred.makeUnsafe<void>()
          const changed = Deferred.makeUnsafe<void>()
          let runs = 0
          yield* node.consume(
            Consumer.make(Spread, {
              group: "workers",
              handler: ({ id }: Note, { attempt }) =>
                Effect.gen(function* () {
                  runs++
                  yield* effect(id, `attempt ${attempt}`)
                  const balance = yield* value<number>("SELECT balance AS value FROM account WHERE id = $1", id)
                  yield* Deferred.succeed(read, undefined)
                  yield* Deferred.await(changed)
                  yield* values("UPDATE account SET balance = $2 WHERE id = $1", id, balance + 1)
                }).pipe(pass)
            }).pipe(Consumer.orDeadLetter)
          )
          yield* node.run(Producer.publish(Spread, one))
          yield* Deferred.await(read)
          yield* values("UPDATE account SET balance = balance + 10")
          yield* Deferred.succeed(changed, undefined)
          yield* settled(1)
          assert.strictEqual(yield* value("SELECT balance AS value FROM account WHERE id = 'm1'"), 11)
          assert.strictEqual(runs, 2)
          yield* uncounted
        })
      )
    )

    it.live(`for sessions that are ended, handed on ${how}`, () =>
      inDatabase(
        Effect.gen(function* () {
          const node = yield* start()
          const inside = Deferred.makeUnsafe<void>()
          const ended = Deferred.makeUnsafe<void>()
          let runs = 0
          yield* node.consume(
            Consumer.make(Spread, {
              group: "workers",
              handler: ({ id }: Note, { attempt }) =>
                Effect.gen(function* () {
                  runs++
                  yield* effect(id, `attempt ${attempt}`)
                  yield* Deferred.succeed(inside, undefined)
                  yield* Deferred.await(ended)
                  yield* values("SELECT 1 AS value")
                }).pipe(pass)
            }).pipe(Consumer.orDeadLetter)
          )
          yield* node.run(Producer.publish(Spread, one))
          yield* Deferred.await(inside)
          yield* values(`SELECT pg_terminate_backend(pid) AS value FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = 'app'`)
          yield* Deferred.succeed(ended, undefined)
          yield* settled(1)
          assert.strictEqual(runs, 2)
          assert.deepStrictEqual(yield* effects, ["m1"])
          yield* uncounted
        })
      )
    )
  }

  it.live("for an inbox row that another transaction inserted after the snapshot", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start({
          client: { startupParameters: { default_transaction_isolation: "repeatable read" } }
        })
        const registered = yield* start()
        yield* Effect.scoped(
          registered.consume(Consumer.make(Spread, { group: "workers", handler: () => Effect.void }))
        )
        // The message's transaction waits for this one, and finds afterwards that its snapshot is too old.
        const commit = yield* holding(
          values("INSERT INTO surety.inbox SELECT id, 'm1', 'handled' FROM surety.consumer_group")
        )
        yield* node.run(Producer.publishAll(Spread, [one, two]))
        yield* node.consume(Consumer.make(Spread, { group: "workers", handler: ({ id }: Note) => effect(id) }))
        yield* until(
          "it waits",
          Effect.map(waiting(), (count) => count > 0)
        )
        yield* commit
        yield* settled(2)
        assert.deepStrictEqual(yield* effects, ["m2"])
        assert.deepStrictEqual(yield* inbox, ["m1 handled", "m2 handled"])
        assert.deepStrictEqual(yield* deadLetters, [])
      })
    )
  )

  it.live("for a lease that was lost in its middle", () =>
    inDatabase(
      Effect.gen(function* () {
        const first = yield* start()
        const second = yield* start()
        const inside = Deferred.makeUnsafe<void>()
        const consumer = (rest: Effect.Effect<unknown>) =>
          Consumer.make(notes(), {
            group: "workers",
            drainTimeout: "1 millis",
            handler: Effect.fnUntraced(function* ({ id }: Note, { attempt }: Envelope.Envelope<Note>) {
              yield* effect(id, `attempt ${attempt}`)
              yield* rest
            })
          })
        yield* first.consume(consumer(Effect.andThen(Deferred.succeed(inside, undefined), Effect.never)))
        yield* first.publish(note("a"))
        yield* Deferred.await(inside)
        yield* cutOffMembers
        yield* second.consume(consumer(Effect.void))
        yield* settled(1)
        // Its first holder may have ended by it: it is claimed again, and has not failed.
        assert.deepStrictEqual(yield* values("SELECT note AS value FROM effect"), ["attempt 2"])
        assert.deepStrictEqual(yield* values("SELECT failures AS value FROM surety.attempt WHERE failures > 0"), [])
      })
    )
  )
})

describe("rule 16: an attempt is counted", () => {
  /** Ended by the first one, or by a second one that says so: defects are tried again. */
  const counted = (attempts: ReadonlyArray<number>) => assert.include(["1", "1,2"], attempts.join())

  it.live("for a handler that left its transaction idle until the server ended it", () =>
    inDatabase(
      Effect.gen(function* () {
        const observer = yield* SqlClient.SqlClient
        const node = yield* start({
          client: { startupParameters: { idle_in_transaction_session_timeout: "200ms" } }
        })
        const attempts: Array<number> = []
        yield* node.consume(
          Consumer.make(Spread, {
            group: "workers",
            handler: (_, { attempt }) =>
              Effect.gen(function* () {
                if (attempts.push(attempt) > 1) return
                const pid = yield* value<number>("SELECT pg_backend_pid() AS value")
                yield* until(
                  "the session was ended",
                  value<boolean>("SELECT count(*) = 0 AS value FROM pg_stat_activity WHERE pid = $1", pid).pipe(
                    Effect.provideService(SqlClient.SqlClient, observer)
                  )
                )
              })
          }).pipe(Consumer.orDeadLetter)
        )
        yield* node.run(Producer.publish(Spread, one))
        yield* settled(1)
        counted(attempts)
      })
    )
  )

  const fields = { cause: new Error("of another database"), operation: "query" }
  const connect = PgClient.make({ url: Redacted.make("postgres://nobody@127.0.0.1:1/reports") })
  const foreign: Readonly<Record<string, Effect.Effect<unknown, unknown, SqlClient.SqlClient>>> = {
    "connection that is lost": Effect.flatMap(connect, (sql) => sql`SELECT 1`).pipe(
      Effect.scoped,
      Effect.provide(Reactivity.layer)
    ),
    "connection that is lost, in a transaction that is aborted": Effect.andThen(
      Effect.ignore(values("SELECT 1 / 0")),
      Effect.fail(new SqlError({ reason: new ConnectionError(fields) }))
    ),
    deadlock: Effect.fail(new SqlError({ reason: new DeadlockError(fields) })),
    "serialization failure": Effect.fail(new SqlError({ reason: new SerializationError(fields) }))
  }
  for (const [what, failing] of Object.entries(foreign)) {
    for (const [how, pass] of Object.entries(ways)) {
      it.live(`for another database's ${what}, handed on ${how}`, () =>
        inDatabase(
          Effect.gen(function* () {
            const node = yield* start()
            const attempts: Array<number> = []
            yield* node.consume(
              Consumer.make(Spread, {
                group: "workers",
                handler: (_, { attempt }) =>
                  Effect.suspend(() => (attempts.push(attempt) > 1 ? Effect.void : pass(failing)))
              }).pipe(Consumer.orDeadLetter)
            )
            yield* node.run(Producer.publish(Spread, one))
            yield* settled(1)
            counted(attempts)
          })
        )
      )
    }
  }
})

describe("a server that refuses for a while", () => {
  it.live("to write, during a failover: publishing and handling go on afterwards", () =>
    inDatabase(
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const node = yield* start({ lease: "2 seconds" })
        yield* node.consume(Consumer.make(Spread, { group: "workers", handler: ({ id }: Note) => effect(id) }))
        yield* node.run(Producer.publish(Spread, one))
        yield* settled(1)
        const name = yield* value<string>("SELECT quote_ident(current_database()) AS value")
        const readOnly = (setting: "on" | "off") =>
          sql.withTransaction(
            Effect.gen(function* () {
              yield* values("SET TRANSACTION READ WRITE")
              yield* values(`ALTER DATABASE ${name} SET default_transaction_read_only = ${setting}`)
            })
          )
        const endSessions = values(`SELECT pg_terminate_backend(pid) AS value FROM pg_stat_activity
          WHERE datname = current_database() AND application_name LIKE 'app%'`)
        const refused = (call: string) =>
          until(
            `${call} is refused`,
            value<boolean>(
              `SELECT count(*) > 0 AS value FROM pg_stat_activity
              WHERE datname = current_database() AND application_name LIKE 'app%' AND state = 'idle' AND query LIKE '%.' || $1 || '(%'`,
              call
            )
          )
        yield* readOnly("on")
        yield* endSessions
        const publishing = yield* Effect.forkScoped(node.run(Producer.publish(Spread, two)))
        yield* Effect.forEach(["heartbeat", "claim", "hold_horizon"], refused)
        yield* readOnly("off")
        yield* endSessions
        yield* Fiber.join(publishing)
        yield* settled(2)
        assert.deepStrictEqual(yield* effects, ["m1", "m2"])
        assert.deepStrictEqual(yield* deadLetters, [])
      })
    )
  )

  const refusals: Readonly<Record<string, string>> = {
    "since it is a standby": "RETURN true",
    "for an error of its disk": "RAISE EXCEPTION 'could not read block 0' USING ERRCODE = 'io_error'"
  }
  for (const [why, refuse] of Object.entries(refusals)) {
    it.live(`to read, ${why}: the consumer goes on afterwards`, () =>
      inDatabase(
        Effect.gen(function* () {
          const node = yield* start({ pollInterval: "50 millis" })
          yield* values("CREATE TABLE refusing AS SELECT 1")
          // What a sequence counts stays counted.
          yield* values("CREATE SEQUENCE refused")
          yield* values(`CREATE FUNCTION refuse() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
            IF NOT EXISTS (SELECT FROM public.refusing) THEN RETURN false; END IF;
            PERFORM nextval('public.refused');
            ${refuse};
          END $$`)
          yield* changeFunction("horizon", "pg_is_in_recovery()", "public.refuse()")
          yield* node.consume(Consumer.make(Spread, { group: "workers", handler: ({ id }: Note) => effect(id) }))
          yield* node.run(Producer.publish(Spread, one))
          yield* until("it was refused", value<boolean>("SELECT last_value >= 3 AS value FROM refused"))
          yield* values("DELETE FROM refusing")
          yield* settled(1)
          assert.deepStrictEqual(yield* effects, ["m1"])
        })
      )
    )
  }
})

describe("rule 23: synchronous_commit = off", () => {
  const build = (client: ClientOptions) => Effect.exit(Layer.build(layerNode({ client })))
  const refusal = (exit: Exit.Exit<unknown, unknown>) =>
    Exit.isFailure(exit) ? exit.cause.reasons.map((reason) => (reason._tag === "Fail" ? reason.error : reason)) : []

  it.live("is refused by the inbox where the app's sessions have it", () =>
    inDatabase(
      Effect.gen(function* () {
        const [error] = refusal(yield* build({ startupParameters: { synchronous_commit: "off" } }))
        assert.instanceOf(error, Guarantee.CompositionError)
        assert.include(`${error}`, "synchronous_commit")
      })
    )
  )

  it.live("is refused where the database has it, and any other value is taken", () =>
    inDatabase(
      Effect.gen(function* () {
        const name = yield* value<string>("SELECT quote_ident(current_database()) AS value")
        yield* values(`ALTER DATABASE ${name} SET synchronous_commit = off`)
        assert.instanceOf(refusal(yield* build({}))[0], Guarantee.CompositionError)
        assert.isTrue(Exit.isSuccess(yield* build({ startupParameters: { synchronous_commit: "local" } })))
      })
    )
  )
})
