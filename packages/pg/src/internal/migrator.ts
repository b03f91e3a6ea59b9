/** Runs the migrations, or checks that they were run. */
import * as Effect from "effect/Effect"
import * as Migrator from "effect/sql/Migrator"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { PgSchemaError } from "../PgSchemaError.ts"
import { type Database, rows, transaction } from "./database.ts"
import { codeOf, toTransportError } from "./errors.ts"
import { latest, migrations } from "./migrations.ts"

const table = "migration"

const fail = (
  db: Database,
  reason: PgSchemaError["reason"],
  detail: string,
  cause?: unknown
): Effect.Effect<never, PgSchemaError> =>
  Effect.fail(new PgSchemaError({ reason, schema: db.settings.schema, detail, cause }))

const failed =
  (db: Database) =>
  (error: SqlError): Effect.Effect<never, PgSchemaError> => {
    const { reason } = toTransportError("migrate", "")(error)
    switch (reason._tag) {
      case "Unauthorized":
        return fail(db, "Unauthorized", `${reason.detail}; check the credentials and the privileges of the role`, error)
      case "Unavailable":
      case "OutcomeUnknown":
        return fail(db, "Unreachable", `${reason.detail}; start the server, or correct its address`, error)
      default:
        return codeOf(error) === "3D000"
          ? fail(db, "Unreachable", `${error.reason.cause}; create the database first`, error)
          : fail(db, "MigrationFailed", `${error.reason.cause}`, error)
    }
  }

/** The last migration that was run; 0 when there is none. */
const installed = (db: Database): Effect.Effect<number, SqlError | PgSchemaError> =>
  Effect.gen(function* () {
    const [server] = yield* rows<{ version: number; recovery: boolean }>(
      db.control,
      "SELECT current_setting('server_version_num')::integer AS version, pg_is_in_recovery() AS recovery",
      []
    )
    if (server!.version < 140000) {
      return yield* fail(db, "UnsupportedServer", `PostgreSQL ${server!.version / 10000}; 14 or later is needed`)
    }
    if (server!.recovery) return yield* fail(db, "UnsupportedServer", "the server is a standby; connect to the primary")
    const [found] = yield* rows<{ found: boolean }>(db.control, "SELECT to_regclass($1) IS NOT NULL AS found", [
      `${db.schema}.${table}`
    ])
    if (!found!.found) return 0
    const [row] = yield* rows<{ id: number | null }>(
      db.control,
      `SELECT max(migration_id) AS id FROM ${db.schema}.${table}`,
      []
    )
    return row!.id ?? 0
  })

const newer = (db: Database, id: number) =>
  fail(
    db,
    "Newer",
    `it is at migration ${id}, and this version of Surety knows ${latest}; upgrade the package, or use another schema`
  )

export const verify = (db: Database): Effect.Effect<void, PgSchemaError> =>
  Effect.flatMap(installed(db), (id): Effect.Effect<void, PgSchemaError> => {
    if (id === latest) return Effect.void
    if (id > latest) return newer(db, id)
    return id === 0
      ? fail(db, "Missing", "it was not migrated; build PgSchema.layer once, or run PgSchema.migrate")
      : fail(
          db,
          "Outdated",
          `it is at migration ${id} of ${latest}; build PgSchema.layer once, or run PgSchema.migrate`
        )
  }).pipe(Effect.catchTag("SqlError", failed(db)))

export const run = (db: Database): Effect.Effect<void, PgSchemaError> => {
  const loader: Migrator.Loader = Effect.succeed(
    migrations.map(
      ({ id, name, statements }): Migrator.ResolvedMigration => [
        id,
        name,
        Effect.succeed(
          Effect.forEach(statements(db), (statement) => db.control.unsafe(statement).unprepared, { discard: true })
        )
      ]
    )
  )
  const migrate = Effect.gen(function* () {
    yield* rows(db.control, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", [`surety.migrate.${db.schema}`])
    const [schema] = yield* rows<{ found: boolean }>(db.control, "SELECT to_regnamespace($1) IS NOT NULL AS found", [
      db.schema
    ])
    // Also IF NOT EXISTS asks for the privilege to create schemas, which the owner of one that was made for it may lack.
    if (!schema!.found) yield* rows(db.control, `CREATE SCHEMA ${db.schema}`, [])
    yield* rows(db.control, "SELECT set_config('search_path', $1, true)", [db.schema])
    yield* Migrator.make({})({ loader, table })
  }).pipe(Effect.provideService(SqlClient.SqlClient, db.control), (migrations) => transaction(db, migrations))
  return Effect.flatMap(
    installed(db),
    (id): Effect.Effect<void, PgSchemaError | Migrator.MigrationError | SqlError> => {
      if (id === latest) return Effect.void
      return id > latest ? newer(db, id) : migrate
    }
  ).pipe(
    Effect.catchTag("SqlError", failed(db)),
    Effect.catchTag("MigrationError", (error) => fail(db, "MigrationFailed", error.message, error))
  )
}
