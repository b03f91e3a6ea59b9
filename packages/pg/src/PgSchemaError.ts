/**
 * Why Surety's schema cannot be used.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/**
 * Why Surety's schema cannot be used:
 *
 * - `InvalidName`: the name is no identifier of PostgreSQL.
 * - `InvalidOptions`: a duration or limit that cannot be used.
 * - `Unreachable`: no connection could be made.
 * - `Unauthorized`: the credentials were refused, or the role lacks a privilege.
 * - `UnsupportedServer`: older than PostgreSQL 14, or a standby.
 * - `Missing`, `Outdated`: migrations have to be run.
 * - `Newer`: the schema was migrated by a later version of Surety.
 * - `MigrationFailed`: a migration failed; nothing of it was kept.
 *
 * @category errors
 * @since 0.1.0
 */
export const PgSchemaErrorReason = Schema.Literals([
  "InvalidName",
  "InvalidOptions",
  "Unreachable",
  "Unauthorized",
  "UnsupportedServer",
  "Missing",
  "Outdated",
  "Newer",
  "MigrationFailed"
])

/**
 * Surety's schema cannot be used. `detail` says what to do.
 *
 * @category errors
 * @since 0.1.0
 */
export class PgSchemaError extends Schema.TaggedError<PgSchemaError>("@surety/pg/PgSchemaError")("PgSchemaError", {
  reason: PgSchemaErrorReason,
  schema: Schema.String,
  detail: Schema.String,
  cause: Schema.optional(Schema.Defect())
}) {
  override get message(): string {
    return `schema "${this.schema}": ${this.detail}`
  }
}
