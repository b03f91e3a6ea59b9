/** Isolation levels that are a default of the database: handlers run under them, and what is ours does not stand in their way. */
import { assert, describe, it } from "@effect/vitest"
import { Consumer, Inbox, Producer } from "@surety/core"
import { Effect } from "effect"
import * as SqlClient from "effect/sql/SqlClient"
import {
  changeFunction,
  deadLetters,
  effect,
  effects,
  inDatabase,
  type Note,
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

const inDatabaseOf = <A, E, R>(isolation: string, body: Effect.Effect<A, E, R>) =>
  inDatabase(
    Effect.gen(function* () {
      const name = yield* value<string>("SELECT quote_ident(current_database()) AS value")
      yield* values(`ALTER DATABASE ${name} SET default_transaction_isolation = '${isolation}'`)
      return yield* body
    })
  )

for (const isolation of ["repeatable read", "serializable"]) {
  describe(isolation, () => {
    it.live("every message is handled exactly once", () =>
      inDatabaseOf(
        isolation,
        Effect.gen(function* () {
          const nodes = [yield* start(), yield* start()]
          assert.strictEqual(
            yield* Effect.flatMap(nodes[0]!.run(Inbox.Inbox), () =>
              nodes[0]!.run(value<string>("SELECT current_setting('transaction_isolation') AS value"))
            ),
            isolation
          )
          yield* values("CREATE TABLE account (balance integer NOT NULL)")
          yield* values("INSERT INTO account VALUES (0)")
          const Many = notes({ partitions: 4 })
          const all = Array.from({ length: 60 }, (_, index) => `m${index}`)
          // Twice each, under keys that lie in different partitions.
          const copies = (turn: number) => all.map((id, index) => note(id, { key: `${index + turn}` }))
          const publisher = nodes[1]!
          yield* Effect.forEach(nodes, (node) =>
            node.consume(
              Consumer.make(Many, {
                group: "workers",
                concurrency: 3,
                batchSize: 4,
                handler: Effect.fnUntraced(function* ({ id }: Note) {
                  yield* effect(id)
                  const balance = yield* value<number>("SELECT balance AS value FROM account")
                  yield* values("UPDATE account SET balance = $1", balance + 1)
                  yield* Effect.orDie(Producer.publish(Out, id))
                })
              }).pipe(Consumer.orDeadLetter)
            )
          )
          yield* publisher.run(Producer.publishAll(Many, copies(0)))
          // In a transaction of the app's, with its isolation.
          yield* publisher.run(
            Effect.flatMap(SqlClient.SqlClient, (sql) => sql.withTransaction(Producer.publishAll(Many, copies(1))))
          )
          yield* settled(2 * all.length)
          assert.deepStrictEqual((yield* effects).toSorted(), all.toSorted())
          assert.deepStrictEqual((yield* published("out")).toSorted(), all.toSorted())
          assert.strictEqual(yield* value("SELECT balance AS value FROM account"), all.length)
          assert.deepStrictEqual(yield* deadLetters, [])
          assert.deepStrictEqual(yield* values("SELECT failures AS value FROM surety.attempt WHERE failures > 0"), [])
        })
      )
    )

    /** A handler that goes on while its lease is renewed, and later messages of its partition are claimed. Returns how often it ran. */
    const slow = Effect.gen(function* () {
      const node = yield* start({ lease: "600 millis" })
      const observer = yield* Effect.context<SqlClient.SqlClient>()
      const leases = Effect.map(values<Date>("SELECT expires_at AS value FROM surety.lease"), ([expiresAt]) =>
        expiresAt!.getTime()
      )
      let runs = 0
      yield* node.consume(
        Consumer.make(Work, {
          group: "workers",
          batchSize: 1,
          handler: ({ id }: Note) =>
            Effect.gen(function* () {
              if (id !== "slow") return yield* effect(id)
              runs++
              yield* effect(id)
              const before = yield* Effect.provideContext(leases, observer)
              yield* Effect.provideContext(
                until(
                  "twice its lease has passed, and what came later was claimed",
                  Effect.gen(function* () {
                    const claimed = yield* value<boolean>(
                      "SELECT claimed = (SELECT log_offset FROM surety.log WHERE id = 'later') AS value FROM surety.lease"
                    )
                    return claimed && (yield* leases) - before > 1200
                  })
                ),
                observer
              )
            }).pipe(Effect.orDie)
        })
      )
      yield* node.publish(note("slow"))
      yield* until(
        "it runs",
        Effect.sync(() => runs > 0)
      )
      yield* node.publish(note("later"))
      yield* until(
        "it ran twice, or all is settled",
        Effect.map(value<boolean>("SELECT settled = 2 AS value FROM surety.cursor"), (all) => all || runs > 1)
      )
      return runs
    })

    it.live("a handler may take longer than its lease", () =>
      inDatabaseOf(
        isolation,
        Effect.gen(function* () {
          assert.strictEqual(yield* slow, 1)
          assert.deepStrictEqual(yield* effects, ["slow", "later"])
        })
      )
    )

    it.live("it could not where heartbeats changed the cursor's row: the test can fail", () =>
      inDatabaseOf(
        isolation,
        Effect.gen(function* () {
          yield* start()
          yield* changeFunction(
            "heartbeat",
            "IF v_changed OR v_joined",
            "UPDATE surety.cursor SET settled = settled; IF v_changed OR v_joined"
          )
          assert.isAbove(yield* slow, 1)
        })
      )
    )
  })
}
