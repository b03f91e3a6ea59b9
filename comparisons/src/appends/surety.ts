/** Ours: a topic of one partition, and a group that reads it. */
import * as PgClient from "@effect/sql-pg/PgClient"
import { Consumer, Producer, Topic } from "@surety/core"
import { SuretyPg } from "@surety/pg"
import { Effect, Layer } from "effect"
import type { Contestant } from "../comparison.ts"
import { Entry, last, Reading, type Transaction, transactions, writers } from "./load.ts"

const Entries = Topic.make("entries", {
  schema: Entry,
  guarantee: "at-least-once",
  id: ({ id }) => id,
  key: ({ id }) => id.split(":")[0]!,
  partitions: 1
})

export const run: Contestant["run"] = Effect.fnUntraced(function* (url) {
  const reading = new Reading()
  const Reader = Consumer.make(Entries, { group: "reader", handler: (entry) => Effect.sync(() => reading.read(entry)) })
  const append = ({ entries, openSeconds }: Transaction) =>
    Effect.flatMap(PgClient.PgClient, (sql) =>
      sql.withTransaction(
        // Other work in the transaction of the append.
        Effect.andThen(Producer.publishAll(Entries, entries), sql`SELECT pg_sleep(${openSeconds})`)
      )
    )
  const live = Consumer.layer(Reader).pipe(
    Layer.provideMerge(SuretyPg.layerWith({ pollInterval: "10 millis" })),
    Layer.provideMerge(PgClient.layer({ url }))
  )
  return yield* Effect.gen(function* () {
    yield* Effect.forEach(transactions, append, { concurrency: writers, discard: true })
    yield* append(last)
    yield* reading.ended
    const sql = yield* PgClient.PgClient
    const [row] = yield* sql<{ count: number }>`
        SELECT count(*)::integer AS count FROM surety.log WHERE id <> ${last.entries[0]!.id}`
    return reading.counts(row!.count)
  }).pipe(Effect.provideContext(yield* Layer.build(live)))
})
