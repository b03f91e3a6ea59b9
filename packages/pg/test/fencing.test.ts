/**
 * POSTGRES.md, rules 13 to 15: a holder whose lease is over changes nothing, and
 * does not stand in its successor's way. Here the holder does not know that it
 * was replaced; in zombie.test.ts it is frozen.
 */
import type * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import { Consumer, type Envelope, Inbox, Producer, Topic, Transport, TransportError } from "@surety/core"
import { Cause, Deferred, Effect, Exit, Scope } from "effect"
import * as SqlClient from "effect/sql/SqlClient"
import {
  changeFunction,
  cutOffMembers,
  effect,
  effects,
  inbox,
  inDatabase,
  lease,
  type Node,
  type Note,
  note,
  Out,
  published,
  settled,
  start,
  until,
  value,
  values,
  Work,
  waiting
} from "./support/nodes.ts"

const reasonOf = (exit: Exit.Exit<unknown, unknown>): string => {
  if (Exit.isSuccess(exit)) return "success"
  const error = Cause.squash(exit.cause)
  return error instanceof TransportError ? error.reason._tag : Cause.pretty(exit.cause)
}

const terminateNobody = changeFunction("terminate", "PERFORM pg_terminate_backend(l.pid)", "PERFORM l.pid")

describe("rule 13: the epoch", () => {
  it.live("that is over is refused before the handler runs", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        // The member sees that its epoch is over, takes the partition again, and would end this session.
        yield* terminateNobody
        const { transaction } = yield* node.run(Inbox.Inbox)
        const { holder } = yield* lease(node, Work)
        yield* values("UPDATE surety.cursor SET epoch = epoch + 1")
        const exit = yield* transaction(holder, effect("a")).pipe(Effect.exit)
        assert.strictEqual(reasonOf(exit), "Fenced")
        assert.deepStrictEqual(yield* effects, [])
      })
    )
  )

  /** A transaction whose lease is taken over in its middle by another member. */
  const overtaken = (node: Node, last: (assignment: Transport.Assignment) => Effect.Effect<void, TransportError>) =>
    Effect.gen(function* () {
      yield* terminateNobody
      const { admit, transaction } = yield* node.run(Inbox.Inbox)
      const { publish } = yield* node.run(Transport.Transport)
      const { assignment, holder } = yield* lease(node, Work)
      const observer = yield* Effect.context<PgClient.PgClient | SqlClient.SqlClient>()
      const record = { id: "out", key: undefined, headers: {}, time: 0, payload: new Uint8Array() }
      return yield* Effect.gen(function* () {
        yield* admit(holder, [{ id: "a", outcome: "handled" }])
        yield* effect("a")
        yield* publish(Topic.declaration(Out), [record])
        yield* Effect.provideContext(cutOffMembers, observer)
        const successor = yield* lease(yield* start(), Work)
        assert.isAbove(successor.holder.epoch, holder.epoch)
        yield* last(assignment)
      }).pipe((body) => transaction(holder, body), Effect.exit)
    })

  for (const last of ["settle", "fence"] as const) {
    it.live(`that ended before \`${last}\` aborts the transaction: no effect, no inbox row, no message`, () =>
      inDatabase(
        Effect.gen(function* () {
          const node = yield* start()
          const exit = yield* overtaken(node, (held) => (last === "settle" ? held.settle(1) : held.fence))
          assert.strictEqual(reasonOf(exit), "Fenced")
          assert.deepStrictEqual(yield* effects, [])
          assert.deepStrictEqual(yield* inbox, [])
          assert.deepStrictEqual(yield* published("out"), [])
          assert.deepStrictEqual(yield* values("SELECT settled AS value FROM surety.cursor"), [0n])
        })
      )
    )
  }

  it.live("that is not checked by the last statement lets it commit: the test can fail", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        const exit = yield* overtaken(node, () => Effect.void)
        assert.strictEqual(reasonOf(exit), "success")
        assert.deepStrictEqual(yield* effects, ["a"])
        assert.deepStrictEqual(yield* published("out"), ["out"])
      })
    )
  )

  it.live("is checked by several transactions of a partition without deadlocks", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        const all = Array.from({ length: 200 }, (_, index) => `m${index}`)
        yield* node.consume(
          Consumer.make(Work, {
            group: "workers",
            concurrency: 8,
            batchSize: 2,
            handler: ({ id }: Note, { attempt }) => effect(id, `${attempt}`)
          })
        )
        yield* node.publish(...all.map((id) => note(id)))
        yield* settled(all.length)
        assert.deepStrictEqual((yield* effects).toSorted(), all.toSorted())
        assert.deepStrictEqual(yield* values("SELECT DISTINCT note AS value FROM effect"), ["1"])
        assert.strictEqual(
          yield* value<bigint>("SELECT deadlocks AS value FROM pg_stat_database WHERE datname = current_database()"),
          0n
        )
      })
    )
  )
})

/** Its handlers write and publish, and then do what is given. */
const consumer = (name: string, rest: Effect.Effect<unknown, never, SqlClient.SqlClient> = Effect.void) =>
  Consumer.make(Work, {
    group: "workers",
    handler: Effect.fnUntraced(function* ({ id }: Note, { attempt }: Envelope.Envelope<Note>) {
      yield* effect(id, `${name} ${attempt}`)
      yield* Effect.orDie(Producer.publish(Out, `${id} by ${name}`))
      yield* rest
    })
  })

/** A point that a handler reaches, and where it stays until it is let go. */
const stopPoint = () => {
  const reached = Deferred.makeUnsafe<void>()
  const open = Deferred.makeUnsafe<void>()
  return {
    here: Effect.andThen(Deferred.succeed(reached, undefined), Deferred.await(open)),
    reached: Deferred.await(reached),
    go: Deferred.succeed(open, undefined)
  }
}

describe("rule 14: a holder that does not end its transaction", () => {
  const lockCursor = Effect.orDie(values("SELECT 1 AS value FROM surety.cursor FOR UPDATE"))

  for (const [where, lock] of [
    ["at the inbox row", Effect.void],
    ["at the cursor", lockCursor]
  ] as const) {
    it.live(`${where} is out of its successor's way, and nothing of it is kept`, () =>
      inDatabase(
        Effect.gen(function* () {
          const one = yield* start({ client: { applicationName: "one" } })
          const two = yield* start({ client: { applicationName: "two" } })
          const inside = stopPoint()
          const locked = stopPoint()
          yield* one.consume(consumer("one", inside.here.pipe(Effect.andThen(lock), Effect.andThen(locked.here))))
          yield* one.publish(note("a"), note("b"))
          yield* inside.reached
          const reconnect = yield* cutOffMembers
          yield* inside.go
          yield* locked.reached
          const scope = yield* Scope.make()
          yield* Scope.provide(two.consume(consumer("two")), scope)
          yield* settled(2)
          // Its session is gone, not only its lease.
          yield* until(
            "no transaction of the first holder",
            value<boolean>(`SELECT count(*) = 0 AS value FROM pg_stat_activity
              WHERE datname = current_database() AND application_name = 'one' AND state = 'idle in transaction'`)
          )
          yield* locked.go
          yield* Scope.close(scope, Exit.void)
          yield* reconnect
          // The first one is a member again, and goes on where its successor stopped.
          yield* two.publish(note("c"))
          yield* settled(3)
          assert.deepStrictEqual(yield* values("SELECT concat(id, ' ', note) AS value FROM effect ORDER BY seq"), [
            "a two 2",
            "b two 2",
            "c one 1"
          ])
          assert.deepStrictEqual(yield* published("out"), ["a by two", "b by two", "c by one"])
        })
      )
    )
  }

  it.live("blocks its successor where nobody terminates it, until its own check: the test can fail", () =>
    inDatabase(
      Effect.gen(function* () {
        const one = yield* start({ client: { applicationName: "one" } })
        const two = yield* start({ client: { applicationName: "two" } })
        yield* terminateNobody
        const inside = stopPoint()
        yield* one.consume(consumer("one", inside.here))
        yield* one.publish(note("a"))
        yield* inside.reached
        yield* cutOffMembers
        yield* two.consume(consumer("two"))
        yield* until(
          "the successor waits",
          Effect.map(waiting("two"), (count) => count > 0)
        )
        assert.deepStrictEqual(yield* effects, [])
        yield* inside.go
        yield* settled(1)
        // Rule 13 keeps the promise all the same.
        assert.deepStrictEqual(yield* values("SELECT note AS value FROM effect"), ["two 2"])
        assert.deepStrictEqual(yield* published("out"), ["a by two"])
      })
    )
  )

  it.live("keeps its session for an hour at most, or as long as the app says", () =>
    inDatabase(
      Effect.gen(function* () {
        const ofServer = yield* start()
        const ofApp = yield* start({
          client: { startupParameters: { idle_in_transaction_session_timeout: "7min" } }
        })
        const timeout = (node: Node) =>
          Effect.gen(function* () {
            const { transaction } = yield* node.run(Inbox.Inbox)
            const { holder } = yield* Effect.scoped(lease(node, Work))
            return yield* transaction(
              holder,
              value<string>("SELECT current_setting('idle_in_transaction_session_timeout') AS value")
            )
          })
        assert.strictEqual(yield* timeout(ofServer), "1h")
        assert.strictEqual(yield* timeout(ofApp), "7min")
      })
    )
  )
})

describe("rule 15: leases", () => {
  /** Whether a heartbeat in a transaction that is older than the lease leaves a lease in force. */
  const renewedLate = Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* Effect.scoped(lease(yield* start(), Work))
    return yield* sql.withTransaction(
      Effect.gen(function* () {
        yield* until(
          "the transaction is old",
          value<boolean>("SELECT clock_timestamp() - now() > interval '250 ms' AS value")
        )
        yield* values("UPDATE surety.lease SET holder = 'me'")
        yield* values(
          "SELECT h.rank AS value FROM surety.consumer_group g, surety.heartbeat(g.id, 'me', interval '200 ms') AS h"
        )
        return yield* value<boolean>("SELECT expires_at > clock_timestamp() AS value FROM surety.lease")
      })
    )
  })

  it.live("are renewed by the clock, also in an old transaction", () =>
    inDatabase(Effect.map(renewedLate, (inForce) => assert.isTrue(inForce)))
  )

  it.live("are over when they are renewed by the start of the transaction: the test can fail", () =>
    inDatabase(
      Effect.gen(function* () {
        yield* start()
        yield* changeFunction("heartbeat", "v_now := clock_timestamp()", "v_now := now()")
        assert.isFalse(yield* renewedLate)
      })
    )
  )

  it.live("are kept when handlers hold every connection of the app", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start({ lease: "600 millis", client: { maxConnections: 2 } })
        const open = Deferred.makeUnsafe<void>()
        let running = 0
        yield* node.consume(
          Consumer.make(Work, {
            group: "workers",
            concurrency: 2,
            batchSize: 1,
            handler: Effect.fnUntraced(function* ({ id }: Note, { epoch }: Envelope.Envelope<Note>) {
              yield* effect(id, `epoch ${epoch}`)
              running++
              yield* Deferred.await(open)
            })
          })
        )
        yield* node.publish(note("a"), note("b"), note("c"))
        yield* until(
          "both connections are taken",
          Effect.sync(() => running === 2)
        )
        const before = yield* value<string>("SELECT clock_timestamp()::text AS value")
        const renewed = values<boolean>(
          "SELECT expires_at > $1::timestamptz + interval '1800 ms' AS value FROM surety.lease",
          before
        )
        yield* until(
          "three times the lease has passed, and it is still held",
          Effect.map(renewed, (all) => all.every((is) => is))
        )
        yield* Deferred.succeed(open, undefined)
        yield* settled(3)
        assert.deepStrictEqual((yield* effects).toSorted(), ["a", "b", "c"])
        assert.deepStrictEqual(yield* values("SELECT DISTINCT note AS value FROM effect"), ["epoch 1"])
      })
    )
  )
})
