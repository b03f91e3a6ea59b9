/**
 * Surety's schema in a database: tables and functions, and the connections on
 * which they are used.
 *
 * The services of this package are built over one `PgSchema`; those that are
 * built over the same one share transactions.
 *
 * **Details**
 *
 * Handlers, and whatever publishes inside a transaction, use the client of the
 * app. Everything else (publishing on its own, claims, leases, notifications)
 * uses connections of Surety's own, at most 6 and 3 per process, with the same
 * settings, so that handlers that fill the app's pool do not starve the leases.
 *
 * @since 0.1.0
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Backend from "@surety/core/Backend"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as database from "./internal/database.ts"
import * as migrator from "./internal/migrator.ts"
import * as retention from "./internal/retention.ts"
import * as signals from "./internal/signals.ts"
import type { PgSchemaError } from "./PgSchemaError.ts"

/**
 * The schema and its connections. Opaque.
 *
 * @category services
 * @since 0.1.0
 */
export class PgSchema extends Context.Service<PgSchema, database.Database & { readonly signals: signals.Signals }>()(
  "@surety/pg/PgSchema"
) {}

/**
 * For how long what is over is kept.
 *
 * @category models
 * @since 0.1.0
 */
export interface Retention {
  /**
   * Messages stay in the log for at least so long after they were stored, and
   * until every group of their topic has settled them: a group that nobody
   * serves any more holds its topic's log back until it is dropped with
   * `PgTransport.dropGroup`. A group that is new, and starts at `earliest`, finds
   * what is left. Messages that wait for a retry, and dead letters, are kept
   * apart and are not touched. Default `forever`.
   */
  readonly log?: Duration.Input | "forever" | undefined
  /**
   * A copy of a message that is stored within so long after the transaction began
   * that settled the first one has no second effect, however long the copy then
   * waits for its group or for a retry; a delayed one is stored when it becomes
   * readable. Default `forever`. Anything shorter is refused when
   * `ExactlyOnce.layer` is built unless it covers the retention of the log.
   */
  readonly inbox?: Duration.Input | "forever" | undefined
  /**
   * Whether indexes that deletions have left several times too large are built
   * anew in the background, by `REINDEX INDEX CONCURRENTLY`, where the role of the
   * process owns the tables and the server is not one of 14.0 to 14.3. Default
   * `false`: it waits for every transaction that is open, DDL on these tables waits
   * for it, and while it runs an INSERT may, rarely, be told of a duplicate that
   * there is not, which counts as a failed attempt of a message.
   */
  readonly reclaim?: boolean | undefined
}

/**
 * Options of a schema.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** The schema's name: any identifier of at most 63 bytes. Default `surety`. */
  readonly schema?: string | undefined
  /**
   * Within how long the partitions of a worker that ends without a word, or is
   * silent, are served by another one that has room. It says that it is alive
   * every quarter of it, and what it holds is free after three quarters of
   * silence. Default 15 seconds. Measured by the database's clock.
   */
  readonly lease?: Duration.Input | undefined
  /** How often to look for messages that no notification announced. Default 1 second. */
  readonly pollInterval?: Duration.Input | undefined
  /** The largest record, in bytes of id, key, headers and payload together. Default 1 MiB, at most 64 MiB. */
  readonly maxRecordBytes?: number | undefined
  /**
   * For how long what is over is kept, by the database's clock. It is deleted in
   * the background, in small batches, within about a tenth of the retention.
   *
   * Give it alike to all processes of a schema: each goes by its own, so that
   * the shortest one counts.
   */
  readonly retention?: Retention | undefined
  /** Whether building the layer runs the migrations, or only checks that they were run. Default `run`. */
  readonly migrations?: "run" | "verify" | undefined
}

const toRetention = (input: Duration.Input | "forever" = "forever"): number | "forever" =>
  input === "forever" ? input : Duration.toMillis(Duration.fromInputUnsafe(input))

/**
 * A schema with options.
 *
 * **Gotchas**
 *
 * Migrating needs the privilege to create the schema; declaring a topic for the
 * first time, to create a sequence in it. Ending a frozen worker's transaction
 * needs its role, or `pg_signal_backend`.
 *
 * A role that only publishes and consumes, of topics that another one has
 * declared, needs `USAGE` on the schema, `SELECT, INSERT, UPDATE, DELETE` on all
 * tables in it, and `USAGE, SELECT` on all sequences in it. Each topic has a
 * sequence of its own, which the role that declares it makes: let that one
 * `ALTER DEFAULT PRIVILEGES`, or grant again after each new topic.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: Options): Layer.Layer<PgSchema, PgSchemaError, PgClient.PgClient> =>
  Layer.effect(
    PgSchema,
    Effect.gen(function* () {
      const made = yield* database.make(yield* PgClient.PgClient, {
        schema: options.schema ?? "surety",
        leaseMillis: Duration.toMillis(Duration.fromInputUnsafe(options.lease ?? "15 seconds")),
        pollMillis: Duration.toMillis(Duration.fromInputUnsafe(options.pollInterval ?? "1 second")),
        maxRecordBytes: options.maxRecordBytes ?? 1024 * 1024,
        retention: {
          log: toRetention(options.retention?.log),
          inbox: toRetention(options.retention?.inbox),
          reclaim: options.retention?.reclaim ?? false
        }
      })
      if (!(yield* Backend.explaining)) {
        yield* options.migrations === "verify" ? migrator.verify(made) : migrator.run(made)
        yield* retention.sweep(made)
      }
      return { ...made, signals: yield* signals.make(made) }
    })
  ).pipe(Layer.provide(Reactivity.layer))

/**
 * The schema `surety`, migrated when the layer is built.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<PgSchema, PgSchemaError, PgClient.PgClient> = layerWith({})

/**
 * The schema `surety`, which must have been migrated: fails with a clear error
 * when it was not, and changes nothing.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerVerify: Layer.Layer<PgSchema, PgSchemaError, PgClient.PgClient> = layerWith({ migrations: "verify" })

/**
 * Runs the migrations of a schema, for a deployment that migrates before its
 * apps start with {@link layerVerify}. Does nothing when they were run.
 *
 * @category migrations
 * @since 0.1.0
 */
export const migrate = (
  options: { readonly schema?: string | undefined } = {}
): Effect.Effect<void, PgSchemaError, PgClient.PgClient> =>
  Effect.asVoid(Effect.scoped(Layer.build(layerWith({ schema: options.schema }))))
