/**
 * POSTGRES.md, rules 17 and 18: what becomes of the work of a handler whose
 * transaction does not commit, or not alone.
 */
import { assert, describe, it } from "@effect/vitest"
import { Consumer, type Envelope, Inbox, Producer } from "@surety/core"
import { Cause, Data, Deferred, Effect, Exit, Fiber, Schedule } from "effect"
import * as SqlClient from "effect/sql/SqlClient"
import {
  deadLetters,
  effect,
  effects,
  inbox,
  inDatabase,
  lease,
  type Note,
  note,
  Out,
  published,
  settled,
  start,
  value,
  values,
  Work
} from "./support/nodes.ts"

class Refused extends Data.TaggedError("Refused")<{ readonly id: string }> {}

const ids = (count: number) => Array.from({ length: count }, (_, index) => `m${index + 1}`)

describe("what a handler publishes", () => {
  it.live("is there if and only if its transaction committed, and its savepoint was not rolled back", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        yield* node.publish(note("a"), note("b"))
        const say = (text: string) => Effect.orDie(Producer.publish(Out, text))
        yield* node.consume(
          Consumer.make(Work, {
            group: "workers",
            handler: Effect.fnUntraced(function* ({ id }: Note, { attempt }: Envelope.Envelope<Note>) {
              const sql = yield* SqlClient.SqlClient
              const nested = <E>(body: Effect.Effect<unknown, E, any>) => Effect.ignore(sql.withTransaction(body))
              yield* say(`${id}${attempt} plain`)
              yield* nested(Effect.andThen(say(`${id}${attempt} rolled back`), new Refused({ id })))
              yield* nested(
                Effect.gen(function* () {
                  yield* say(`${id}${attempt} released`)
                  yield* nested(Effect.andThen(say(`${id}${attempt} inner, rolled back`), new Refused({ id })))
                  yield* nested(say(`${id}${attempt} inner, released`))
                })
              )
              yield* nested(
                Effect.gen(function* () {
                  yield* nested(say(`${id}${attempt} inner, of a rolled back one`))
                  return yield* new Refused({ id })
                })
              )
              yield* say(`${id}${attempt} last`)
              if (id === "b" || attempt === 1) return yield* new Refused({ id })
            })
          }).pipe(Consumer.retry("Refused", Schedule.recurs(1)), Consumer.orDeadLetter)
        )
        yield* settled(2)
        assert.deepStrictEqual(yield* inbox, ["a handled", "b dead"])
        assert.deepStrictEqual(yield* published("out"), ["a2 plain", "a2 released", "a2 inner, released", "a2 last"])
      })
    )
  )

  it.live("leaves all the same, and with each attempt, where it is published now", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        yield* node.publish(note("a"))
        yield* node.consume(
          Consumer.make(Work, {
            group: "workers",
            handler: Effect.fnUntraced(function* ({ id }: Note, { attempt }: Envelope.Envelope<Note>) {
              yield* effect(id)
              const receipt = yield* Effect.orDie(Producer.publishNow(Out, `attempt ${attempt}`))
              assert.strictEqual(receipt.state, "stored")
              yield* Effect.orDie(Producer.publish(Out, `handled by ${attempt}`))
              if (attempt === 1) return yield* new Refused({ id })
            })
          }).pipe(Consumer.retry("Refused", Schedule.recurs(1)), Consumer.orDeadLetter)
        )
        yield* settled(1)
        assert.deepStrictEqual(yield* published("out"), ["attempt 1", "attempt 2", "handled by 2"])
        assert.deepStrictEqual(yield* effects, ["a"])
        yield* node.run(
          Effect.flatMap(SqlClient.SqlClient, (sql) =>
            Effect.ignore(
              sql.withTransaction(
                Effect.gen(function* () {
                  yield* Producer.publish(Out, "rolled back")
                  yield* Producer.publishNow(Out, "now")
                  return yield* new Refused({ id: "b" })
                })
              )
            )
          )
        )
        assert.deepStrictEqual(yield* published("out"), ["attempt 1", "attempt 2", "handled by 2", "now"])
      })
    )
  )

  it.live("is published by nobody else when a fiber that it left behind tries", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        yield* node.publish(note("a"))
        const late = Deferred.makeUnsafe<void>()
        const exit = Deferred.makeUnsafe<Exit.Exit<unknown, { readonly reason: { readonly _tag: string } }>>()
        yield* node.consume(
          Consumer.make(Work, {
            group: "workers",
            handler: () =>
              Deferred.await(late).pipe(
                Effect.andThen(Producer.publish(Out, "late")),
                Effect.exit,
                Effect.flatMap((ended) => Deferred.succeed(exit, ended)),
                Effect.forkDetach
              )
          })
        )
        yield* settled(1)
        yield* Deferred.succeed(late, undefined)
        const ended = yield* Deferred.await(exit)
        assert.strictEqual(
          Exit.isFailure(ended) &&
            Cause.findErrorOption(ended.cause).pipe((found) => (found._tag === "Some" ? found.value.reason._tag : "")),
          "UnitEnded"
        )
        assert.deepStrictEqual(yield* published("out"), [])
      })
    )
  )
})

describe("rule 17: a batch that fails", () => {
  it.live("is halved until the poison message stands alone, and the others commit", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        const all = ids(16)
        yield* node.publish(...all.map((id) => note(id)))
        const runs = new Map<string, number>()
        yield* node.consume(
          Consumer.make(Work, {
            group: "workers",
            handler: Effect.fnUntraced(function* ({ id }: Note, { attempt }: Envelope.Envelope<Note>) {
              runs.set(id, (runs.get(id) ?? 0) + 1)
              yield* effect(id, `attempt ${attempt}`)
              yield* Effect.orDie(Producer.publish(Out, id))
              if (id === "m6") return yield* new Refused({ id })
            })
          }).pipe(Consumer.retry("Refused", Schedule.recurs(1)), Consumer.orDeadLetter)
        )
        yield* settled(all.length)
        const innocent = all.filter((id) => id !== "m6")
        assert.deepStrictEqual(yield* effects, innocent)
        assert.deepStrictEqual(yield* published("out"), innocent)
        assert.deepStrictEqual(yield* deadLetters, ["m6 Refused 2"])
        assert.deepStrictEqual(yield* values("SELECT DISTINCT note AS value FROM effect"), ["attempt 1"])
        // 16, 8, 4 and 2 with others, and then its two attempts.
        assert.strictEqual(runs.get("m6"), 6)
        assert.isAtMost(Math.max(...runs.values()), 6)
      })
    )
  )
})

describe("rule 18: a transaction that cannot commit", () => {
  const unique = values("CREATE UNIQUE INDEX ON effect (id)")

  it.live("a handler that catches its own SQL error has failed; those of its batch have not", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        yield* unique
        yield* node.publish(note("a"), note("b"), note("c"))
        yield* node.consume(
          Consumer.make(Work, {
            group: "workers",
            handler: ({ id }: Note) =>
              id === "b" ? Effect.andThen(effect(id), Effect.ignoreCause(effect(id))) : effect(id)
          })
        )
        yield* settled(3)
        assert.deepStrictEqual(yield* inbox, ["a handled", "b dead", "c handled"])
        assert.deepStrictEqual(yield* effects, ["a", "c"])
        assert.match((yield* deadLetters)[0]!, /^b TransportError /)
      })
    )
  )

  it.live("a handler that catches it in a savepoint has not", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        yield* unique
        yield* node.publish(note("a"))
        yield* node.consume(
          Consumer.make(Work, {
            group: "workers",
            handler: Effect.fnUntraced(function* ({ id }: Note) {
              const sql = yield* SqlClient.SqlClient
              yield* effect(id)
              yield* Effect.ignoreCause(sql.withTransaction(effect(id)))
            })
          })
        )
        yield* settled(1)
        assert.deepStrictEqual(yield* inbox, ["a handled"])
        assert.deepStrictEqual(yield* effects, ["a"])
      })
    )
  )

  it.live("a COMMIT that was a ROLLBACK is no commit", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        const { transaction } = yield* node.run(Inbox.Inbox)
        const { holder } = yield* lease(node, Work)
        const exit = yield* transaction(
          holder,
          Effect.andThen(effect("a"), Effect.ignore(values("SELECT 1 / 0 AS value")))
        ).pipe(Effect.exit, node.run)
        assert.isTrue(Exit.isFailure(exit))
        assert.deepStrictEqual(yield* effects, [])
      })
    )
  )

  it.live("a constraint that fails at the COMMIT is a failure of the message", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        yield* values("CREATE TABLE account (id text PRIMARY KEY)")
        yield* values("ALTER TABLE effect ADD FOREIGN KEY (id) REFERENCES account DEFERRABLE INITIALLY DEFERRED")
        yield* values("INSERT INTO account VALUES ('a'), ('c')")
        yield* node.publish(note("a"), note("b"), note("c"))
        yield* node.consume(Consumer.make(Work, { group: "workers", handler: ({ id }: Note) => effect(id) }))
        yield* settled(3)
        assert.deepStrictEqual(yield* inbox, ["a handled", "b dead", "c handled"])
        assert.deepStrictEqual(yield* effects, ["a", "c"])
      })
    )
  )

  it.live("a fiber that a handler left behind does not write into the next message's transaction", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start({ client: { maxConnections: 1 } })
        yield* node.publish(note("a"), note("b"))
        const inB = Deferred.makeUnsafe<void>()
        let late: Fiber.Fiber<unknown, unknown> | undefined
        const sessions = new Set<number>()
        let lateExit: Exit.Exit<unknown, unknown> | undefined
        yield* node.consume(
          Consumer.make(Work, {
            group: "workers",
            batchSize: 1,
            handler: Effect.fnUntraced(function* ({ id }: Note) {
              sessions.add(yield* Effect.orDie(value<number>("SELECT pg_backend_pid() AS value")))
              if (id === "a") {
                late = yield* Effect.forkDetach(Effect.andThen(Deferred.await(inB), effect("late")))
              } else {
                yield* effect(id)
                yield* Deferred.succeed(inB, undefined)
                lateExit = yield* Fiber.await(late!)
              }
            })
          })
        )
        yield* settled(2)
        // Both messages had the one connection.
        assert.strictEqual(sessions.size, 1)
        assert.isTrue(lateExit !== undefined && Exit.isFailure(lateExit))
        assert.deepStrictEqual(yield* effects, ["b"])
      })
    )
  )
})
