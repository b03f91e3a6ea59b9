/**
 * A zombie: a worker process is frozen (SIGSTOP) inside the transaction of its
 * handler, for longer than its lease. A second one takes the message over and
 * commits. Then the first one goes on, to its COMMIT.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as TestProcess from "@surety/testing/TestProcess"
import { Effect, Layer, Redacted, Schedule } from "effect"
import type * as SqlClient from "effect/sql/SqlClient"
import { type Comparison, type Contestant, type Counts, versionOf } from "../comparison.ts"
import { offer as offerPersisted } from "./persistedQueue.ts"
import { offer as offerSurety } from "./surety.ts"

type Offer = Effect.Effect<unknown, unknown, PgClient.PgClient | SqlClient.SqlClient>

const program = (file: string, offer: Offer): Contestant["run"] =>
  Effect.fnUntraced(function* (url) {
    const client = yield* Layer.build(PgClient.layer({ url, applicationName: "compare" }))
    return yield* Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const until = <E, R>(holds: Effect.Effect<boolean, E, R>) =>
        Effect.repeat(holds, { until: (now) => now, schedule: Schedule.spaced("20 millis") })

      const start = Effect.fnUntraced(function* (name: string) {
        const said = new Set<string>()
        const worker = yield* TestProcess.spawn(new URL(`./workers/${file}.ts`, import.meta.url), {
          args: [name],
          env: { DATABASE_URL: Redacted.value(url) },
          onLine: (line) => said.add(line)
        })
        const says = (line: string) => until(Effect.sync(() => said.has(line)))
        yield* says("ready")
        return { ...worker, says }
      })
      const committed = (worker: string) =>
        Effect.map(
          sql<{ count: number }>`SELECT count(*)::integer AS count FROM charge WHERE worker = ${worker}`,
          ([row]) => row!.count
        )

      yield* sql`CREATE TABLE charge (id text NOT NULL, worker text NOT NULL)`
      const zombie = yield* start("zombie")
      const successor = yield* start("successor")
      yield* offer
      yield* zombie.tell("take")
      yield* zombie.says("inside")
      yield* zombie.signal("SIGSTOP")
      yield* successor.tell("take")
      yield* until(Effect.map(committed("successor"), (count) => count > 0))
      yield* zombie.signal("SIGCONT")
      yield* zombie.tell("go")
      yield* zombie.says("goes on")
      // Its transaction has ended, one way or the other.
      yield* until(
        Effect.map(
          sql<{ open: boolean }>`SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
            AND application_name LIKE 'zombie%' AND state <> 'idle') AS open`,
          ([row]) => !row!.open
        )
      )
      const counts: Counts = {
        "charges of the successor": yield* committed("successor"),
        "of the zombie": yield* committed("zombie")
      }
      return counts
    }).pipe(Effect.provideContext(client))
  })

export const zombie: Comparison = {
  name: "zombie",
  about:
    "A worker is frozen in the transaction of its handler for longer than its lease, replaced, and goes on. One message.",
  expected: { "charges of the successor": 1, "of the zombie": 0 },
  contestants: [
    {
      system: "Effect PersistedQueue.take in sql.withTransaction",
      version: versionOf("effect", import.meta.url),
      ours: false,
      run: program("persistedQueue", offerPersisted)
    },
    {
      system: "Surety, exactly-once",
      version: versionOf("@surety/pg", import.meta.url),
      ours: true,
      run: program("surety", offerSurety)
    }
  ]
}
