/** Schemas with odd names, several of them, several databases, and clients that an app has set up in its own way. */
import * as PgTypes from "@effect/sql-pg/PgTypes"
import { assert, describe, it } from "@effect/vitest"
import { Consumer, DeadLetters, Producer, Transport } from "@surety/core"
import type { PgSchemaError } from "@surety/pg/PgSchemaError"
import * as TestPostgres from "@surety/testing/TestPostgres"
import * as WireFaults from "@surety/testing/WireFaults"
import { Data, Effect, Fiber, Result, Schedule, Stream } from "effect"
import * as SqlClient from "effect/sql/SqlClient"
import {
  effect,
  effects,
  holding,
  inDatabase,
  type Node,
  type Note,
  note,
  notes,
  Out,
  onServer,
  start,
  TestDatabase,
  until,
  value,
  values
} from "./support/nodes.ts"

class Refused extends Data.TaggedError("Refused") {}

const Work = notes({ partitions: 2 })

const progress = (node: Node, topic = "work") =>
  node.run(Effect.flatMap(Transport.Transport, (transport) => transport.progress(topic, "workers")))

const allSettled = (node: Node) =>
  until(
    "all is settled",
    Effect.map(progress(node), (found) => found.every(({ lag }) => lag === 0))
  )

const letters = (node: Node) =>
  node.run(
    Effect.map(
      Effect.flatMap(DeadLetters.DeadLetters, (dead) => Stream.runCollect(dead.list())),
      (found) => found.map(({ attempts, record }) => `${record.id} ${attempts}`)
    )
  )

/** Publishing, alone and in a transaction, consuming, retrying, dead-lettering and publishing from handlers. */
const wholeFlow = (node: Node, prefix = "") =>
  Effect.gen(function* () {
    const id = (name: string) => `${prefix}${name}`
    yield* node.consume(
      Consumer.make(Work, {
        group: "workers",
        handler: Effect.fnUntraced(function* (payload: Note) {
          yield* effect(payload.id)
          yield* Effect.orDie(Producer.publish(Out, payload.id))
          if (payload.body === "bad") return yield* new Refused()
        })
      }).pipe(Consumer.retry("Refused", Schedule.recurs(1)), Consumer.orDeadLetter)
    )
    const seen: Array<string> = []
    yield* node.consume(
      Consumer.make(Out, { group: "readers", handler: (text: string) => Effect.sync(() => seen.push(text)) })
    )
    yield* node.run(Producer.publish(Work, note(id("a"))))
    yield* node.run(
      Effect.flatMap(SqlClient.SqlClient, (sql) =>
        sql.withTransaction(Producer.publishAll(Work, [note(id("b"), { body: "bad" }), note(id("c")), note(id("a"))]))
      )
    )
    yield* allSettled(node)
    yield* until(
      "what was published is read",
      Effect.sync(() => seen.length >= 2)
    )
    assert.deepStrictEqual(seen.toSorted(), [id("a"), id("c")])
    assert.deepStrictEqual(yield* letters(node), [`${id("b")} 2`])
  })

describe("the schema's name", () => {
  const names = [
    "with \"quotes\" and 'apostrophes'",
    "With Spaces And Capitals",
    "🦊 with emoji",
    "100%s of %I and %L, %%",
    "a.b.c",
    "$1 $$ $body$ \\ ; --",
    "select",
    "n".repeat(63),
    "é".repeat(31)
  ]
  for (const schema of names) {
    it.live(`may be ${schema}`, () =>
      inDatabase(
        Effect.gen(function* () {
          yield* wholeFlow(yield* start({ schema }))
          assert.deepStrictEqual((yield* effects).toSorted(), ["a", "c"])
          assert.strictEqual(
            yield* value("SELECT count(*)::integer AS value FROM pg_namespace WHERE nspname = $1", schema),
            1
          )
          // Nothing of it went elsewhere.
          assert.deepStrictEqual(
            yield* values(
              "SELECT relname AS value FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
            ),
            ["effect", "effect_seq_seq"]
          )
        })
      )
    )
  }

  for (const [what, schema] of Object.entries({
    "64 bytes": "n".repeat(64),
    "64 bytes in 32 characters": "é".repeat(32),
    "no bytes": "",
    "a NUL": "a\0b",
    "pg_ in front": "pg_surety",
    "the name of a variable": "$user"
  })) {
    it.live(`may not have ${what}`, () =>
      inDatabase(
        Effect.gen(function* () {
          const error = yield* Effect.flip(start({ schema })) as Effect.Effect<PgSchemaError, never, any>
          assert.strictEqual(error._tag, "PgSchemaError")
          assert.strictEqual(error.reason, "InvalidName")
        })
      )
    )
  }
})

describe("invariant 17: they do not see each other", () => {
  it.live("two schemas in one database", () =>
    inDatabase(
      Effect.gen(function* () {
        const one = yield* start({ schema: "one" })
        const two = yield* start({ schema: "two" })
        yield* Effect.all([wholeFlow(one, "one "), wholeFlow(two, "two ")], { concurrency: 2 })
        assert.deepStrictEqual((yield* effects).toSorted(), ["one a", "one c", "two a", "two c"])
      })
    )
  )

  it.live("two databases on one server, whose open transactions hold nothing back in the other", () =>
    onServer(
      Effect.gen(function* () {
        const node = yield* start()
        // The same object ids, in another database: its locks must not be taken for ours (rule 4).
        yield* onServer(
          Effect.gen(function* () {
            const other = yield* start()
            const commit = yield* other.run(holding(Producer.publish(Work, note("held"))))
            yield* Effect.scoped(wholeFlow(node))
            yield* commit
            yield* other.consume(Consumer.make(Work, { group: "workers", handler: ({ id }: Note) => effect(id) }))
            yield* allSettled(other)
            assert.deepStrictEqual(yield* effects, ["held"])
          })
        )
        assert.deepStrictEqual((yield* effects).toSorted(), ["a", "c"])
      })
    ).pipe(Effect.provide(TestPostgres.layer))
  )
})

describe("the app's client", () => {
  const camel = (name: string) => name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase())
  const snake = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)

  it.live("may rename columns", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start({
          client: { transformResultNames: camel, transformQueryNames: snake, transformJson: true }
        })
        yield* wholeFlow(node)
        // The client of the app is still its own.
        assert.deepStrictEqual(
          yield* node.run(Effect.flatMap(SqlClient.SqlClient, (sql) => sql`SELECT 1 AS ${sql("accountNumber")}`)),
          [{ accountNumber: 1 }]
        )
      })
    )
  )

  it.live("may send the statements of many fibers over one connection", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start({ client: { multiplex: true, maxConnections: 2 } })
        yield* wholeFlow(node)
      })
    )
  )

  it.live(
    "may share connections, where ours must not: a listener would keep the statements that were given its own",
    () =>
      inDatabase(
        Effect.gen(function* () {
          const { url } = yield* TestDatabase
          const wire = WireFaults.make(url)
          const resume = yield* wire.silence("app:leases")
          // Nothing is given up before this test is.
          const node = yield* start({ lease: "10 minutes", client: { multiplex: true, stream: wire.stream } })
          const flow = yield* Effect.forkChild(wholeFlow(node))
          yield* until(
            "the listener and the first heartbeat wait for a connection",
            value<boolean>("SELECT count(*) = 1 AS value FROM surety.consumer_group")
          )
          yield* resume
          yield* Fiber.join(flow)
        })
      )
  )

  it.live("may read and write types in its own way", () =>
    inDatabase(
      Effect.gen(function* () {
        const types = PgTypes.makeRegistry()
        const { timestamptz } = PgTypes.OID
        types.register<unknown>(timestamptz, {
          encode: (value) => PgTypes.encode(value, timestamptz),
          decode: (bytes) => Result.map(PgTypes.decode(bytes, timestamptz, 1), String)
        })
        yield* wholeFlow(yield* start({ client: { types } }))
      })
    )
  )

  it.live("may prepare nothing", () =>
    inDatabase(Effect.flatMap(start({ client: { prepare: false } }), (node) => wholeFlow(node)))
  )

  it.live("may have a search_path of its own", () =>
    inDatabase(
      Effect.gen(function* () {
        yield* values("CREATE SCHEMA app")
        yield* values("CREATE TABLE app.log (LIKE public.effect)")
        yield* wholeFlow(yield* start({ client: { startupParameters: { search_path: "app, public" } } }))
      })
    )
  )

  it.live("may have one connection alone", () =>
    inDatabase(Effect.flatMap(start({ client: { maxConnections: 1 } }), (node) => wholeFlow(node)))
  )
})

it.live("a schema that is migrated by several processes at once is migrated once", () =>
  inDatabase(
    Effect.gen(function* () {
      const nodes = yield* Effect.all(
        Array.from({ length: 4 }, () => start()),
        { concurrency: "unbounded" }
      )
      yield* wholeFlow(nodes[3]!)
      assert.strictEqual(
        yield* value<boolean>("SELECT count(*) = count(DISTINCT migration_id) AS value FROM surety.migration"),
        true
      )
    })
  )
)
