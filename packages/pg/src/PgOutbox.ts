/**
 * The outbox on PostgreSQL: what a handler publishes is inserted into the log
 * in the handler's own transaction, just before it settles.
 *
 * Offsets are drawn late, after the locks of the handler's own statements, so
 * that an open transaction holds the readers of the topic back as shortly as
 * possible. Messages that were published in a savepoint which the handler
 * rolled back are left out.
 *
 * Known limits: it carries messages to the PostgreSQL transport of the same
 * schema; a relay to other transports comes later. Only savepoints of
 * `sql.withTransaction` are known: what is published inside a `SAVEPOINT` that a
 * handler makes by hand leaves with the transaction, rolled back to it or not;
 * so does an at-most-once message inside any savepoint.
 *
 * @since 0.1.0
 */
import { publishStoreOf } from "@surety/core/Backend"
import type { EncodedRecord } from "@surety/core/Envelope"
import { Outbox, type OutgoingRecord } from "@surety/core/Outbox"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { type Database, rows } from "./internal/database.ts"
import { toTransportError } from "./internal/errors.ts"
import { PgSchema } from "./PgSchema.ts"

/** Lives and dies with the savepoint that is open when it is set. */
const marker = "surety.savepoints"

const make = (db: Database): Outbox["Service"] => {
  const { sql } = db
  let savepoints = 0

  const surviving = (records: ReadonlyArray<OutgoingRecord>) => {
    if (records.every(({ savepoint }) => savepoint === undefined)) return Effect.succeed(records)
    return rows<{ markers: string | null }>(sql, "SELECT current_setting($1, true) AS markers", [marker]).pipe(
      Effect.mapError(toTransportError("outbox", records[0]!.topic.name)),
      Effect.map(([row]) => {
        const kept = new Set((row!.markers ?? "").split(","))
        return records.filter(({ savepoint }) => savepoint === undefined || kept.has(`${savepoint}`))
      })
    )
  }

  return {
    store: db,
    description: {
      layer: "PgOutbox.layer",
      promise: "what a handler publishes is inserted in its own transaction, and leaves if and only if that commits",
      gaps: [],
      assumptions: [],
      possible: []
    },
    carries: (transport) => publishStoreOf(transport) === db,
    savepoint: Effect.flatMap(Effect.serviceOption(sql.transactionService), (transaction) => {
      if (Option.isNone(transaction) || transaction.value[1] === 0) return Effect.undefined
      const savepoint = ++savepoints
      return rows(sql, "SELECT set_config($1, concat(current_setting($1, true), ',', $2::text), true)", [
        marker,
        `${savepoint}`
      ]).pipe(Effect.mapError(toTransportError("outbox", "*")), Effect.as(savepoint))
    }),
    write: (records) =>
      Effect.flatMap(surviving(records), (kept) =>
        Effect.forEach(
          // Those that are delayed have a transport of their own.
          Map.groupBy(kept, ({ transport }) => transport),
          ([transport, carried]) =>
            Effect.forEach(
              Map.groupBy(carried, ({ topic }) => topic.name).values(),
              (ofTopic) =>
                transport.publish(
                  ofTopic[0]!.topic,
                  ofTopic.map(({ record }): EncodedRecord => record)
                ),
              { discard: true }
            ),
          { discard: true }
        )
      )
  }
}

/**
 * The outbox.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Outbox, never, PgSchema> = Layer.effect(Outbox, Effect.map(PgSchema, make))
