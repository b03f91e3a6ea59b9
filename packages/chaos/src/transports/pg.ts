/** PostgreSQL carries the messages: it is restarted as by a crash, and its sessions are ended. */
import * as PgClient from "@effect/sql-pg/PgClient"
import { SuretyPg } from "@surety/pg"
import * as TestPostgres from "@surety/testing/TestPostgres"
import { Effect, Layer, type Redacted } from "effect"
import { type ChaosTransport, type Fault, leaseMillis } from "../transport.ts"

/** Ends sessions of the processes, by chance. */
export const sessionsTerminated = Effect.fnUntraced(function* (url: Redacted.Redacted) {
  const context = yield* Layer.build(PgClient.layer({ url, applicationName: "chaos:faults", maxConnections: 1 }))
  const inflict = Effect.flatMap(
    PgClient.PgClient,
    (sql) => sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'app%' AND random() < 0.5`
  ).pipe(Effect.asVoid, Effect.provideContext(context))
  return { name: "sessions terminated", inflict } satisfies Fault
})

export const pg: ChaosTransport = {
  start: Effect.fnUntraced(function* (url) {
    const { restart } = yield* TestPostgres.TestPostgres
    return {
      env: {},
      restarts: [{ name: "server restarts", inflict: restart("immediate") }],
      faults: [yield* sessionsTerminated(url)]
    }
  }),
  layer: () => SuretyPg.layerWith({ lease: leaseMillis }),
  unsent: Effect.succeed(0),
  repeatsReceipts: false
}
