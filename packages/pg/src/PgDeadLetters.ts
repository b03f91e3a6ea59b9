/**
 * The dead letters on PostgreSQL, with their bytes, headers and causes, in the
 * table `dead_letter`.
 *
 * A redrive moves them to the table `redelivery`, from which whoever holds their
 * partitions takes them, and marks their inbox rows as pending, in one
 * transaction for each batch.
 *
 * @since 0.1.0
 */
import { DeadLetters, type Filter } from "@surety/core/DeadLetters"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { SqlError } from "effect/sql/SqlError"
import { ownName } from "./internal/adoption.ts"
import { type Database, rows, transaction } from "./internal/database.ts"
import { type DeadLetterRow, toDeadLetter } from "./internal/deadLetters.ts"
import { toTransportError } from "./internal/errors.ts"
import { escape, inboxKey, unescape } from "./internal/text.ts"
import { PgSchema } from "./PgSchema.ts"

const pageSize = 100
const batchSize = 100

const make = (db: Database): DeadLetters["Service"] => {
  const { control, schema } = db
  const letters = `${schema}.dead_letter d
    JOIN ${schema}.consumer_group g ON g.id = d.consumer_group
    JOIN ${schema}.topic t ON t.id = g.topic`
  const columns = `${ownName} AS topic, t.name AS stored_topic, g.name AS consumer_group, d.partition, d.log_offset, d.id, d.key, d.headers,
    d.published_at, d.payload, d.failure_tag, d.failure_message, d.failure_cause, d.attempts, d.dead_at`
  /** The filter, as parameters 1 to 5. */
  const matching = `($1::text IS NULL OR $1 IN (t.name, ${ownName})) AND ($2::text IS NULL OR g.name = $2)
    AND ($3::text IS NULL OR d.id = $3) AND ($4::text IS NULL OR d.failure_tag = $4)
    AND ($5::timestamptz IS NULL OR d.dead_at < $5)`
  const parameters = (filter: Filter = {}): ReadonlyArray<unknown> => [
    filter.topic ?? null,
    filter.group ?? null,
    filter.id === undefined ? null : escape(filter.id),
    filter.tag ?? null,
    filter.before === undefined ? null : new Date(filter.before)
  ]
  const failed = (operation: string, filter: Filter | undefined) =>
    Effect.mapError(toTransportError(operation, filter?.topic ?? "*"))

  /** Repeats a batch until it finds nothing more. Each is a transaction of its own. */
  const inBatches = (batch: Effect.Effect<number, SqlError>): Effect.Effect<number, SqlError> =>
    Effect.gen(function* () {
      let total = 0
      while (true) {
        const count = yield* batch
        total += count
        if (count < batchSize) return total
      }
    })

  const redriveBatch = (filter: Filter | undefined) =>
    Effect.gen(function* () {
      const moved = yield* rows<{ consumer_group: number; id: string }>(
        control,
        `WITH picked AS (
          SELECT d.consumer_group, d.partition, d.log_offset FROM ${letters}
          WHERE ${matching} ORDER BY d.consumer_group, d.partition, d.log_offset LIMIT ${batchSize} FOR UPDATE OF d
        ),
        moved AS (
          DELETE FROM ${schema}.dead_letter d USING picked p
          WHERE d.consumer_group = p.consumer_group AND d.partition = p.partition AND d.log_offset = p.log_offset
          RETURNING d.*
        ),
        counted AS (
          DELETE FROM ${schema}.attempt a USING moved m
          WHERE a.consumer_group = m.consumer_group AND a.partition = m.partition AND a.log_offset = m.log_offset
        ),
        parked AS (
          INSERT INTO ${schema}.redelivery (
            consumer_group, partition, log_offset, id, key, headers, published_at, payload, ordered
          )
          SELECT consumer_group, partition, log_offset, id, key, headers, published_at, payload, false FROM moved
          ON CONFLICT DO NOTHING
        )
        SELECT consumer_group, id FROM moved`,
        parameters(filter)
      )
      if (moved.length === 0) return 0
      // Rule 12: from dead to pending, for that group alone.
      yield* rows(
        control,
        `UPDATE ${schema}.inbox i SET outcome = 'pending'
        FROM unnest($1::integer[], $2::text[]) AS m(consumer_group, id)
        WHERE i.consumer_group = m.consumer_group AND i.id = m.id AND i.outcome = 'dead'`,
        [moved.map((row) => row.consumer_group), moved.map(({ id }) => inboxKey(unescape(id)))]
      )
      yield* rows(control, "SELECT pg_notify($1, 'r' || g) FROM unnest($2::integer[]) AS g", [
        db.channel,
        Array.from(new Set(moved.map((row) => row.consumer_group)))
      ])
      return moved.length
    }).pipe((batch) => transaction(db, batch))

  return {
    list: (filter) => {
      const page = (after: DeadLetterRow | undefined) =>
        rows<DeadLetterRow>(
          control,
          `SELECT ${columns} FROM ${letters} WHERE ${matching}
            AND ($6::text IS NULL OR (t.name, g.name, d.partition, d.log_offset) > ($6, $7::text, $8::smallint, $9::bigint))
          ORDER BY t.name, g.name, d.partition, d.log_offset LIMIT ${pageSize}`,
          [
            ...parameters(filter),
            after?.stored_topic ?? null,
            after?.consumer_group ?? null,
            after?.partition ?? null,
            after?.log_offset ?? null
          ]
        ).pipe(
          failed("list", filter),
          Effect.map(
            (found) =>
              [
                found.map(toDeadLetter),
                found.length < pageSize ? Option.none() : Option.some(found[found.length - 1])
              ] as const
          )
        )
      return Stream.paginate(undefined, page)
    },
    get: ({ group, offset, partition, topic }) =>
      rows<DeadLetterRow>(
        control,
        `SELECT ${columns} FROM ${letters} WHERE $1 IN (t.name, ${ownName}) AND g.name = $2 AND d.partition = $3 AND d.log_offset = $4`,
        [topic, group, partition, BigInt(offset)]
      ).pipe(
        failed("get", { topic }),
        Effect.map(([row]) => (row === undefined ? Option.none() : Option.some(toDeadLetter(row))))
      ),
    redrive: (filter) => inBatches(redriveBatch(filter)).pipe(failed("redrive", filter)),
    purge: (filter) =>
      inBatches(
        Effect.map(
          rows(
            control,
            `WITH picked AS (
              SELECT d.consumer_group, d.partition, d.log_offset FROM ${letters} WHERE ${matching} LIMIT ${batchSize}
            )
            DELETE FROM ${schema}.dead_letter d USING picked p
            WHERE d.consumer_group = p.consumer_group AND d.partition = p.partition AND d.log_offset = p.log_offset
            RETURNING 1`,
            parameters(filter)
          ),
          (purged) => purged.length
        )
      ).pipe(failed("purge", filter))
  }
}

/**
 * The dead letters.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<DeadLetters, never, PgSchema> = Layer.effect(DeadLetters, Effect.map(PgSchema, make))
