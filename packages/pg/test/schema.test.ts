/** Migrations, and what is said when the schema cannot be used. */

import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import { Producer, Topic } from "@surety/core"
import * as PgSchema from "@surety/pg/PgSchema"
import type { PgSchemaError } from "@surety/pg/PgSchemaError"
import * as SuretyPg from "@surety/pg/SuretyPg"
import * as TestPostgres from "@surety/testing/TestPostgres"
import { Effect, Layer, Redacted, Schema } from "effect"

const onDatabase = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  effect.pipe(Effect.scoped, Effect.provide(TestPostgres.layerClient), Effect.provide(TestPostgres.layer))

const refused = <R>(layer: Layer.Layer<PgSchema.PgSchema, PgSchemaError, R>) => Effect.flip(Layer.build(layer))

const tables = Effect.flatMap(
  PgClient.PgClient,
  (sql) =>
    sql<{ schema: string; count: bigint }>`SELECT schemaname AS schema, count(*) FROM pg_tables
      WHERE schemaname NOT IN ('pg_catalog', 'information_schema') GROUP BY schemaname ORDER BY schemaname`
)

describe("PgSchema", () => {
  it.effect("migrates an empty database, and does nothing when it was", () =>
    onDatabase(
      Effect.gen(function* () {
        yield* Layer.build(PgSchema.layer)
        const first = yield* tables
        assert.deepStrictEqual(
          first.map(({ schema }) => schema),
          ["surety"]
        )
        yield* Layer.build(Layer.fresh(PgSchema.layer))
        yield* Layer.build(PgSchema.layerVerify)
        assert.deepStrictEqual(yield* tables, first)
      })
    )
  )

  it.effect("is migrated once by many that start together", () =>
    onDatabase(
      Effect.gen(function* () {
        yield* Effect.forEach(Array.from({ length: 8 }), () => Layer.build(Layer.fresh(PgSchema.layer)), {
          concurrency: "unbounded"
        })
        const sql = yield* PgClient.PgClient
        const [row] = yield* sql<{ count: bigint }>`SELECT count(*) FROM surety.migration`
        assert.strictEqual(row!.count, 1n)
      })
    )
  )

  it.effect("that only verifies changes nothing, and says what to do", () =>
    onDatabase(
      Effect.gen(function* () {
        const error = yield* refused(PgSchema.layerVerify)
        assert.strictEqual(error.reason, "Missing")
        assert.strictEqual(
          error.message,
          'schema "surety": it was not migrated; build PgSchema.layer once, or run PgSchema.migrate'
        )
        assert.deepStrictEqual(yield* tables, [])
        yield* PgSchema.migrate()
        yield* Layer.build(Layer.fresh(PgSchema.layerVerify))
      })
    )
  )

  it.effect("of a later version is left alone", () =>
    onDatabase(
      Effect.gen(function* () {
        yield* PgSchema.migrate()
        const sql = yield* PgClient.PgClient
        yield* sql`INSERT INTO surety.migration (migration_id, name) VALUES (99, 'later')`
        assert.strictEqual((yield* refused(PgSchema.layer)).reason, "Newer")
        assert.strictEqual((yield* refused(PgSchema.layerVerify)).reason, "Newer")
      })
    )
  )

  it.effect("that lacks a migration is outdated", () =>
    onDatabase(
      Effect.gen(function* () {
        yield* PgSchema.migrate()
        const sql = yield* PgClient.PgClient
        yield* sql`UPDATE surety.migration SET migration_id = -migration_id`
        assert.strictEqual((yield* refused(PgSchema.layerVerify)).reason, "Outdated")
      })
    )
  )

  it.effect("whose migration fails keeps nothing of it", () =>
    onDatabase(
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        yield* sql`CREATE SCHEMA surety`
        yield* sql`CREATE TABLE surety.inbox (taken boolean)`
        const error = yield* refused(PgSchema.layer)
        assert.strictEqual(error.reason, "MigrationFailed")
        assert.deepStrictEqual(yield* tables, [{ schema: "surety", count: 1n }])
      })
    )
  )

  it.effect("says that the role may not create it", () =>
    onDatabase(
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const role = `weak_${process.pid}_${Date.now()}`
        yield* Effect.acquireRelease(sql`CREATE ROLE ${sql(role)} LOGIN PASSWORD 'weak'`, () =>
          Effect.ignore(sql`DROP ROLE ${sql(role)}`)
        )
        const url = new URL(Redacted.value(sql.config.url!))
        url.username = role
        url.password = "weak"
        const client = PgClient.layer({ url: Redacted.make(url.href) })
        assert.strictEqual((yield* refused(Layer.provide(PgSchema.layer, Layer.orDie(client)))).reason, "Unauthorized")
      })
    )
  )

  it.effect("says that the credentials were refused, without quoting them", () =>
    onDatabase(
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const url = new URL(Redacted.value(sql.config.url!))
        url.password = "not-the-password"
        const client = PgClient.layer({ url: Redacted.make(url.href) })
        const error = yield* refused(Layer.provide(PgSchema.layer, Layer.orDie(client)))
        assert.strictEqual(error.reason, "Unauthorized")
        assert.notInclude(`${error.message} ${JSON.stringify(error)}`, "not-the-password")
      })
    )
  )

  it.effect("says that the server is away", () =>
    Effect.gen(function* () {
      const client = PgClient.layer({ host: "127.0.0.1", port: 1, username: "nobody" })
      const error = yield* refused(Layer.provide(PgSchema.layer, Layer.orDie(client)))
      assert.strictEqual(error.reason, "Unreachable")
      assert.include(error.message, "ECONNREFUSED")
    }).pipe(Effect.scoped)
  )

  it.effect("says that the database does not exist", () =>
    onDatabase(
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const url = new URL(Redacted.value(sql.config.url!))
        url.pathname = "/no_such_database"
        const client = PgClient.layer({ url: Redacted.make(url.href) })
        const error = yield* refused(Layer.provide(PgSchema.layer, Layer.orDie(client)))
        assert.strictEqual(error.reason, "Unreachable")
        assert.include(error.message, "create the database first")
      })
    )
  )

  for (const name of ["", "x".repeat(64), "a\0b", "pg_mine"]) {
    it.effect(`refuses the name ${JSON.stringify(name)}`, () =>
      onDatabase(
        Effect.map(refused(PgSchema.layerWith({ schema: name })), (error) =>
          assert.strictEqual(error.reason, "InvalidName")
        )
      )
    )
  }

  for (const options of [{ lease: 0 }, { pollInterval: "-1 second" }, { maxRecordBytes: 2 ** 40 }] as const) {
    it.effect(`refuses ${JSON.stringify(options)}`, () =>
      onDatabase(
        Effect.map(refused(PgSchema.layerWith(options)), (error) => {
          assert.strictEqual(error.reason, "InvalidOptions")
          assert.include(error.message, Object.keys(options)[0]!)
        })
      )
    )
  }

  it.effect("names a migration that went missing afterwards", () =>
    onDatabase(
      Effect.gen(function* () {
        const Log = Topic.make("log", { schema: Schema.String, guarantee: "at-least-once" })
        const context = yield* Layer.build(SuretyPg.layer)
        const sql = yield* PgClient.PgClient
        yield* sql`DROP SCHEMA surety CASCADE`
        const error = yield* Effect.flip(Producer.publish(Log, "one").pipe(Effect.provide(context)))
        assert.strictEqual(error.reason._tag, "NotSent")
        assert.include(error.message, "a migration is missing")
      })
    )
  )
})
