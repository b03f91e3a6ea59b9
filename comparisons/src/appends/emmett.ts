/** The event store of emmett on PostgreSQL, and its consumer. */

import * as PgClient from "@effect/sql-pg/PgClient"
import { type Event, projections } from "@event-driven-io/emmett"
import { getPostgreSQLEventStore, type PostgreSQLProjectionDefinition } from "@event-driven-io/emmett-postgresql"
import { Effect, Redacted } from "effect"
import { Reactivity } from "effect/reactivity"
import type { Contestant } from "../comparison.ts"
import { type Entry, last, Reading, type Transaction, transactions, writers } from "./load.ts"

type Appended = Event<"Appended", Entry & { readonly openSeconds: number }>

/** Other work in the transaction of the append. */
const otherWork: PostgreSQLProjectionDefinition<Appended> = {
  canHandle: ["Appended"],
  handle: async ([first], { connection: { client } }) => {
    await client.query("SELECT pg_sleep($1)", [first!.data.openSeconds])
  }
}

export const run: Contestant["run"] = Effect.fnUntraced(function* (url) {
  const store = yield* Effect.acquireRelease(
    Effect.sync(() =>
      getPostgreSQLEventStore(Redacted.value(url), {
        projections: projections.inline([otherWork])
      })
    ),
    (store) => Effect.promise(() => store.close())
  )
  yield* Effect.promise(() => store.schema.migrate())

  const reading = new Reading()
  const consumer = yield* Effect.acquireRelease(
    Effect.sync(() => store.consumer<Appended>({ pulling: { batchSize: 100, pullingFrequencyInMs: 10 } })),
    (consumer) => Effect.promise(() => consumer.close())
  )
  consumer.reactor<Appended>({ processorId: "reader", eachMessage: ({ data }) => reading.read(data) })
  yield* Effect.forkScoped(Effect.promise(() => consumer.start()))

  const append = ({ entries, openSeconds, stream }: Transaction) =>
    Effect.promise(() =>
      store.appendToStream<Appended>(
        stream,
        entries.map((entry) => ({ type: "Appended", data: { ...entry, openSeconds } }))
      )
    )
  yield* Effect.forEach(transactions, append, { concurrency: writers, discard: true })
  yield* append(last)
  yield* reading.ended
  const sql = yield* PgClient.make({ url })
  const [row] = yield* sql<{ count: number }>`
    SELECT count(*)::integer AS count FROM emt_messages WHERE stream_id <> ${last.stream}`
  return reading.counts(row!.count)
}, Effect.provide(Reactivity.layer))
