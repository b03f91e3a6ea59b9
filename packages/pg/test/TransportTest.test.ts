/**
 * The conformance suite on a real PostgreSQL. Each node has connections of its
 * own, through a proxy that can break them, or stop them as SIGSTOP would.
 */
import { connect, createServer, type Socket } from "node:net"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as PgSchema from "@surety/pg/PgSchema"
import * as SuretyPg from "@surety/pg/SuretyPg"
import * as TestPostgres from "@surety/testing/TestPostgres"
import * as TransportTest from "@surety/testing/TransportTest"
import { Context, Effect, Layer, Redacted, type Scope } from "effect"
import * as Reactivity from "effect/reactivity/Reactivity"

class Database extends Context.Service<
  Database,
  {
    /** Reads what is committed, past all proxies. */
    readonly sql: PgClient.PgClient
    readonly url: Redacted.Redacted
  }
>()("Database") {}

const store = Layer.effect(
  Database,
  Effect.gen(function* () {
    const { createDatabase } = yield* TestPostgres.TestPostgres
    const { url } = yield* createDatabase()
    const sql = yield* PgClient.make({ url, maxConnections: 2 })
    yield* Effect.provideService(PgSchema.migrate(), PgClient.PgClient, sql)
    // The row as JSON: an id may hold what PostgreSQL's text cannot.
    yield* sql`CREATE TABLE applied (place bigserial PRIMARY KEY, topic text NOT NULL, applied text NOT NULL)`
    yield* sql`CREATE INDEX ON applied (topic)`
    return { sql, url }
  })
).pipe(Layer.provide(TestPostgres.layer), Layer.provide(Reactivity.layer))

/** A proxy before the server: `frozen` connections stay open, and nothing flows. */
const makeProxy = (upstream: { readonly host: string; readonly port: number }) =>
  Effect.acquireRelease(
    Effect.callback<{
      readonly port: number
      readonly close: () => void
      readonly lose: () => void
      readonly freeze: () => void
      readonly restore: () => void
    }>((resume) => {
      const sockets = new Set<Socket>()
      let state: "up" | "lost" | "frozen" = "up"
      const server = createServer({ pauseOnConnect: true }, (client) => {
        if (state === "lost") return client.destroy()
        const remote = connect(upstream)
        for (const [from, to] of [
          [client, remote],
          [remote, client]
        ] as const) {
          sockets.add(from)
          from.on("data", (chunk) => to.write(chunk))
          from.on("end", () => to.end())
          from.on("error", () => to.destroy())
          from.on("close", () => {
            sockets.delete(from)
            if (state !== "frozen") to.destroy()
          })
          if (state === "frozen") from.pause()
          else from.resume()
        }
      })
      const lose = () => {
        state = "lost"
        for (const socket of sockets) socket.destroy()
      }
      server.listen(0, "127.0.0.1", () => {
        resume(
          Effect.succeed({
            port: (server.address() as { readonly port: number }).port,
            close: () => {
              lose()
              server.close()
            },
            lose,
            freeze: () => {
              state = "frozen"
              for (const socket of sockets) socket.pause()
            },
            restore: () => {
              state = "up"
              for (const socket of sockets) socket.resume()
            }
          })
        )
      })
    }),
    ({ close }) => Effect.sync(close)
  )

const lease = "3 seconds"

const makeNode = Effect.fnUntraced(function* (
  name: string
): Effect.fn.Return<TransportTest.Node, unknown, Database | Scope.Scope> {
  const { url } = yield* Database
  const target = new URL(Redacted.value(url))
  const proxy = yield* makeProxy({ host: target.hostname, port: Number(target.port === "" ? 5432 : target.port) })
  target.hostname = "127.0.0.1"
  target.port = String(proxy.port)
  const context = yield* Layer.build(
    SuretyPg.layerWith({ lease, pollInterval: "200 millis" }).pipe(
      Layer.provideMerge(PgClient.layer({ url: Redacted.make(target.href), applicationName: name, maxConnections: 8 }))
    )
  )
  const sql = Context.get(context, PgClient.PgClient)
  return {
    services: context,
    apply: (row) =>
      Effect.asVoid(sql`INSERT INTO applied (topic, applied) VALUES (${row.topic}, ${JSON.stringify(row)})`),
    disconnect: (how) => Effect.sync(how === "lost" ? proxy.lose : proxy.freeze),
    reconnect: Effect.sync(proxy.restore)
  }
})

TransportTest.suite(
  "postgres",
  {
    time: "real",
    lease,
    store,
    node: makeNode,
    effects: (topic) =>
      Effect.flatMap(Database, ({ sql }) =>
        Effect.map(
          sql<{ applied: string }>`SELECT applied FROM applied WHERE topic = ${topic} ORDER BY place`,
          (rows) => rows.map(({ applied }) => JSON.parse(applied) as TransportTest.Row)
        )
      )
  },
  { timeout: "60 seconds" }
)
