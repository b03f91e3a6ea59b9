/** PostgreSQL carries the messages: it is restarted as by a crash, and its sessions are ended. */
import * as PgClient from "@effect/sql-pg/PgClient"
import { SuretyPg } from "@surety/pg"
import * as TestPostgres from "@surety/testing/TestPostgres"
import { Effect, Layer } from "effect"
import { type ChaosTransport, leaseMillis } from "../transport.ts"

export const pg: ChaosTransport = {
  name: "pg",
  start: Effect.fnUntraced(function* (url) {
    const { restart } = yield* TestPostgres.TestPostgres
    const context = yield* Layer.build(PgClient.layer({ url, applicationName: "chaos:faults", maxConnections: 1 }))
    const endSessions = Effect.flatMap(
      PgClient.PgClient,
      (sql) => sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'app%' AND random() < 0.5`
    ).pipe(Effect.asVoid, Effect.provideContext(context))
    return {
      env: {},
      restart: { name: "server restarts", inflict: restart("immediate") },
      faults: [{ name: "sessions terminated", inflict: endSessions }]
    }
  }),
  layer: SuretyPg.layerWith({ lease: leaseMillis })
}
