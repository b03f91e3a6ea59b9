/**
 * The conformance suite's backend on a real PostgreSQL. Each node has
 * connections of its own, through a proxy that can break them, or stop them as
 * SIGSTOP would.
 */
import { connect, createServer, type Socket } from "node:net"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as PgSchema from "@surety/pg/PgSchema"
import * as SuretyPg from "@surety/pg/SuretyPg"
import * as TestPostgres from "@surety/testing/TestPostgres"
import type * as TransportTest from "@surety/testing/TransportTest"
import { Context, Effect, Layer, Redacted, Schedule, type Scope } from "effect"
import * as Reactivity from "effect/reactivity/Reactivity"

export class Database extends Context.Service<
  Database,
  {
    /** Reads what is committed, past all proxies. */
    readonly sql: PgClient.PgClient
    readonly url: Redacted.Redacted
    /** Ends the server's processes as a crash does, starts it again, and returns once it answers. */
    readonly crash: Effect.Effect<void, unknown>
  }
>()("Database") {}

/** A database of its own on the given server, with the schema and a table for the effects of handlers. */
export const store = Layer.effect(
  Database,
  Effect.gen(function* () {
    const { createDatabase, restart } = yield* TestPostgres.TestPostgres
    const { url } = yield* createDatabase()
    const sql = yield* PgClient.make({ url, maxConnections: 2 })
    yield* Effect.provideService(PgSchema.migrate(), PgClient.PgClient, sql)
    // The row as JSON: an id may hold what PostgreSQL's text cannot.
    yield* sql`CREATE TABLE applied (place bigserial PRIMARY KEY, topic text NOT NULL, applied text NOT NULL)`
    yield* sql`CREATE INDEX ON applied (topic)`
    const answers = Effect.retry(sql`SELECT 1`, Schedule.spaced("20 millis"))
    return { sql, url, crash: Effect.andThen(restart("immediate"), answers) }
  })
).pipe(Layer.provide(Reactivity.layer))

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

/** The database behind a proxy of its own. */
export const proxied = Effect.fnUntraced(function* (url: Redacted.Redacted) {
  const target = new URL(Redacted.value(url))
  const proxy = yield* makeProxy({ host: target.hostname, port: Number(target.port === "" ? 5432 : target.port) })
  target.hostname = "127.0.0.1"
  target.port = String(proxy.port)
  return { proxy, url: Redacted.make(target.href) }
})

export const lease = "3 seconds"

/** Writes a row of the suite, in the transaction of the calling fiber. */
export const applyWith =
  (sql: PgClient.PgClient): TransportTest.Node["apply"] =>
  (row) =>
    Effect.asVoid(sql`INSERT INTO applied (topic, applied) VALUES (${row.topic}, ${JSON.stringify(row)})`)

const makeNode = Effect.fnUntraced(function* (
  name: string
): Effect.fn.Return<TransportTest.Node, unknown, Database | Scope.Scope> {
  const { proxy, url } = yield* proxied((yield* Database).url)
  const context = yield* Layer.build(
    SuretyPg.layerWith({ lease, pollInterval: "200 millis" }).pipe(
      Layer.provideMerge(PgClient.layer({ url, applicationName: name, maxConnections: 8 }))
    )
  )
  const sql = Context.get(context, PgClient.PgClient)
  return {
    services: context,
    apply: applyWith(sql),
    disconnect: (how) => Effect.sync(how === "lost" ? proxy.lose : proxy.freeze),
    reconnect: Effect.sync(proxy.restore)
  }
})

/** The suite's backend. The store is a database of its own, wherever it is built. */
export const backend: TransportTest.Backend<Database> = {
  time: "real",
  lease,
  store: Layer.provide(store, TestPostgres.layer),
  node: makeNode,
  effects: (topic) =>
    Effect.flatMap(Database, ({ sql }) =>
      Effect.map(sql<{ applied: string }>`SELECT applied FROM applied WHERE topic = ${topic} ORDER BY place`, (rows) =>
        rows.map(({ applied }) => JSON.parse(applied) as TransportTest.Row)
      )
    ),
  kept: (topic, group) =>
    Effect.flatMap(Database, ({ sql }) =>
      Effect.map(
        sql<TransportTest.Kept>`
          SELECT
            (SELECT count(*)::integer FROM surety.attempt a WHERE a.consumer_group = g.id) AS attempts,
            (SELECT count(*)::integer FROM surety.redelivery r WHERE r.consumer_group = g.id) AS redeliveries,
            (SELECT count(*)::integer FROM surety.inbox i WHERE i.consumer_group = g.id AND i.outcome = 'pending') AS pending,
            (SELECT count(*)::integer FROM surety.member m WHERE m.consumer_group = g.id) AS members,
            (SELECT count(*)::integer FROM surety.lease e WHERE e.consumer_group = g.id AND e.holder IS NOT NULL) AS leases,
            (SELECT count(*)::integer FROM surety.cursor c JOIN surety.lease e USING (consumer_group, partition) JOIN surety.log l
              ON l.topic = t.id AND l.partition = c.partition AND l.log_offset > c.settled AND l.log_offset <= e.claimed
              WHERE c.consumer_group = g.id) AS claimed
          FROM surety.consumer_group g JOIN surety.topic t ON t.id = g.topic
          WHERE t.name = ${topic} AND g.name = ${group}`,
        ([row]) => row!
      )
    ),
  crashing: {
    store: Layer.provide(store, TestPostgres.layerEmbedded),
    crash: Effect.flatMap(Database, ({ crash }) => crash)
  }
}
