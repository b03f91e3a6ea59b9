/** What retention has emptied is given back, beside those who publish and consume. */
import { assert, describe, it } from "@effect/vitest"
import * as PgSchema from "@surety/pg/PgSchema"
import { Effect, Fiber, Layer } from "effect"
import { effects, holding, inDatabase, note, published, start, until, value, values } from "./support/nodes.ts"
import { ids, serve } from "./support/retention.ts"

/** A process whose retention is as good as none. */
const forgetting = Layer.build(
  PgSchema.layerWith({
    pollInterval: "50 millis",
    retention: { log: "100 millis", inbox: "100 millis", reclaim: true }
  }).pipe(Layer.fresh)
)

const sizes = values<string>(
  "SELECT concat(relname, ' ', pg_relation_size(oid)) AS value FROM pg_class WHERE relname IN ('log_pkey', 'inbox_pkey') ORDER BY 1"
)
const pages = (log: number, inbox: number) => [`inbox_pkey ${inbox * 8192}`, `log_pkey ${log * 8192}`]

/** As many index entries as 20,000 messages leave, below every cursor. */
const fill = Effect.gen(function* () {
  yield* values(`INSERT INTO surety.log (topic, partition, log_offset, id, headers, published_at, payload, stored_at)
    SELECT 1, 0, nextval('surety.offset_1'), 'm' || n, '{}', now(), '', now() - interval '1 hour' FROM generate_series(1, 20000) n`)
  yield* values("UPDATE surety.cursor SET settled = 20000")
  yield* values(`INSERT INTO surety.inbox (consumer_group, id, outcome, settled_at)
    SELECT 1, 'm' || n, 'handled', now() - interval '1 hour' FROM generate_series(1, 20000) n`)
})

/** What autovacuum does, sooner or later; like it, it leaves out what is being built anew. */
const vacuum = values("VACUUM (ANALYZE, SKIP_LOCKED) surety.log, surety.inbox")

const emptied = until(
  "log and inbox are empty",
  value<boolean>("SELECT NOT EXISTS (SELECT FROM surety.log) AND NOT EXISTS (SELECT FROM surety.inbox) AS value")
)

const declared = Effect.gen(function* () {
  const node = yield* start()
  yield* serve(node, 0)
  yield* fill
  return node
})

describe("space", { concurrent: true }, () => {
  it.live("is given back once it is free, while others publish and consume", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* declared
        assert.isAbove(Number((yield* sizes)[1]!.split(" ")[1]), 50 * 8192)
        yield* forgetting
        yield* emptied
        yield* vacuum
        const more = ids(30, "more")
        const publishing = yield* Effect.forkScoped(Effect.forEach(more, (id) => node.publish(note(id))))
        yield* serve(node, 20_030)
        yield* Fiber.join(publishing)
        yield* until(
          "the indexes are as those of an empty schema",
          Effect.gen(function* () {
            yield* vacuum
            const now = yield* sizes
            return now.every((size) => pages(1, 1).includes(size) || pages(2, 2).includes(size))
          })
        )
        assert.deepStrictEqual((yield* effects).toSorted(), more.toSorted())
        yield* node.publish(note("last"))
        yield* serve(node, 20_031)
        assert.include(yield* effects, "last")
      })
    )
  )

  it.live("is not taken from an index whose entries need it, nor before VACUUM has said how many there are", () =>
    inDatabase(
      Effect.gen(function* () {
        yield* declared
        const found = values<string>("SELECT surety.reclaim('0') AS value")
        assert.deepStrictEqual(yield* found, [])
        yield* vacuum
        assert.deepStrictEqual(yield* found, [])
        yield* values("DELETE FROM surety.log WHERE log_offset <= 19990")
        assert.deepStrictEqual(yield* found, [])
        yield* vacuum
        yield* until(
          "it is found, once the server's statistics have come after",
          Effect.map(found, ([statement]) => statement === "REINDEX INDEX CONCURRENTLY surety.log_pkey")
        )
        assert.lengthOf(yield* published("work"), 10)
        // Not again before its rest, in whichever process.
        assert.deepStrictEqual(yield* values("SELECT surety.reclaim('1 hour') AS value"), [])
      })
    )
  )

  it.live("is given back later where a transaction is open for long, and what was begun is removed", () =>
    inDatabase(
      Effect.gen(function* () {
        yield* declared
        yield* values("DELETE FROM surety.log")
        yield* vacuum
        const release = yield* holding(values("SELECT FROM surety.log FOR UPDATE"))
        const interrupted = yield* Effect.forkScoped(values("REINDEX INDEX CONCURRENTLY surety.log_pkey"))
        yield* until(
          "it waits for the transaction",
          value<boolean>("SELECT count(*) = 1 AS value FROM pg_stat_progress_create_index WHERE phase LIKE 'waiting%'")
        )
        yield* Fiber.interrupt(interrupted)
        yield* release
        yield* until(
          "both are found",
          Effect.map(
            values<string>("SELECT surety.reclaim('0') AS value"),
            (found) =>
              found.join() ===
              "DROP INDEX CONCURRENTLY surety.log_pkey_ccnew,REINDEX INDEX CONCURRENTLY surety.log_pkey"
          )
        )
        yield* forgetting
        yield* until(
          "nothing is left of it",
          Effect.map(
            values<string>(
              "SELECT concat(relname, ' ', pg_relation_size(oid)) AS value FROM pg_class WHERE relname LIKE 'log_pkey%'"
            ),
            (found) => found.length === 1 && found[0] === "log_pkey 8192"
          )
        )
      })
    )
  )
})
