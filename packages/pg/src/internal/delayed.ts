/**
 * Delayed delivery: what is due is moved into the log, by whichever process
 * comes first. A process that ends meanwhile leaves all of it to the others.
 */
import type { PgClient } from "@effect/sql-pg/PgClient"
import { Signal } from "@surety/core/Backend"
import type { Due } from "@surety/core/DelayedDelivery"
import type { EncodedRecord } from "@surety/core/Envelope"
import type { TransportError } from "@surety/core/TransportError"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { answeredRows, background, type Database, rows } from "./database.ts"
import { toTransportError } from "./errors.ts"
import { partitionsOf, toColumns } from "./records.ts"
import type { Signals } from "./signals.ts"
import type { TopicRow } from "./topics.ts"

/** What one transaction moves, and how soon to look again where another process is at it. */
const maxRecords = 500
const maxBytes = 4 * 1024 * 1024
const busyMillis = 50

/** Stores records by one statement, to become readable later. */
export const insert = (
  db: Database,
  client: PgClient,
  topic: TopicRow,
  records: ReadonlyArray<EncodedRecord>,
  due: Due
): Effect.Effect<void, TransportError> =>
  Effect.suspend(() =>
    rows(
      client,
      `SELECT ${db.schema}.publish_later($1::integer, $2::double precision, $3::double precision,
        $4::smallint[], $5::text[], $6::text[], $7::text[], $8::timestamptz[], $9::bytea[])`,
      [
        topic.id,
        due._tag === "After" ? due.millis : null,
        due._tag === "At" ? Math.max(0, due.millis) : null,
        ...toColumns(records, partitionsOf(records, topic))
      ]
    )
  ).pipe(Effect.mapError(toTransportError("publish", topic.name)), Effect.asVoid)

/** Delivers what is due while the scope is open. Returns what to notify when something was stored. */
export const deliver = (db: Database, signals: Signals): Effect.Effect<Signal, never, Scope.Scope> =>
  Effect.gen(function* () {
    const added = new Signal()
    const { pollMillis } = db.settings

    /** One batch of a topic. Returns for how long there is nothing more to do, in milliseconds. */
    const batch = (topic: number): Effect.Effect<number> =>
      answeredRows<{ partitions: ReadonlyArray<number> | null }>(
        db,
        `SELECT ${db.schema}.deliver_due($1, $2, $3) AS partitions`,
        [topic, maxRecords, maxBytes]
      ).pipe(
        Effect.map(([row]) => {
          const partitions = row!.partitions ?? []
          if (partitions.length === 0) return busyMillis
          signals.stored(topic, new Set(partitions))
          return 0
        }),
        Effect.mapError(toTransportError("deliver", `${topic}`)),
        Effect.catch((error) =>
          Effect.as(
            error.isRetryable
              ? Effect.logDebug("what is due is not delivered for now", error)
              : Effect.logWarning("what is due cannot be delivered", error),
            pollMillis
          )
        )
      )

    const round = Effect.gen(function* () {
      const seen = added.version
      const topics = yield* answeredRows<{ topic: number; wait: number }>(
        db,
        `SELECT * FROM ${db.schema}.next_due()`,
        []
      )
      let rest = pollMillis
      for (const { topic, wait } of topics) rest = Math.min(rest, wait > 0 ? Math.ceil(wait) : yield* batch(topic))
      yield* Effect.raceFirst(added.changed(seen), Effect.sleep(rest))
    }).pipe(
      Effect.catch((error) =>
        Effect.andThen(Effect.logDebug("cannot look for what is due; trying again", error), Effect.sleep(pollMillis))
      )
    )
    yield* background(Effect.forever(round))
    return added
  })
