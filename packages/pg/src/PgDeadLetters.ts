/**
 * The dead letters on PostgreSQL, with their bytes, headers and causes, in the
 * table `dead_letter`.
 *
 * @since 0.1.0
 */
import { DeadLetters } from "@surety/core/DeadLetters"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { type Database, rows } from "./internal/database.ts"
import { type DeadLetterRow, toDeadLetter } from "./internal/deadLetters.ts"
import { toTransportError } from "./internal/errors.ts"
import { PgSchema } from "./PgSchema.ts"

const pageSize = 100

const make = (db: Database): DeadLetters["Service"] => ({
  list: (filter) => {
    const page = (after: DeadLetterRow | undefined) =>
      rows<DeadLetterRow>(
        db.control,
        `SELECT t.name AS topic, g.name AS consumer_group, d.partition, d.log_offset, d.id, d.key, d.headers,
          d.published_at, d.payload, d.failure_tag, d.failure_message, d.failure_cause, d.attempts, d.dead_at
        FROM ${db.schema}.dead_letter d
        JOIN ${db.schema}.consumer_group g ON g.id = d.consumer_group
        JOIN ${db.schema}.topic t ON t.id = g.topic
        WHERE ($1::text IS NULL OR t.name = $1) AND ($2::text IS NULL OR g.name = $2)
          AND ($3::text IS NULL OR (t.name, g.name, d.partition, d.log_offset) > ($3, $4::text, $5::smallint, $6::bigint))
        ORDER BY t.name, g.name, d.partition, d.log_offset LIMIT ${pageSize}`,
        [
          filter?.topic ?? null,
          filter?.group ?? null,
          after?.topic ?? null,
          after?.consumer_group ?? null,
          after?.partition ?? null,
          after?.log_offset ?? null
        ]
      ).pipe(
        Effect.mapError(toTransportError("list", filter?.topic ?? "*")),
        Effect.map(
          (found) =>
            [
              found.map(toDeadLetter),
              found.length < pageSize ? Option.none() : Option.some(found[found.length - 1])
            ] as const
        )
      )
    return Stream.paginate(undefined, page)
  }
})

/**
 * The dead letters.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<DeadLetters, never, PgSchema> = Layer.effect(DeadLetters, Effect.map(PgSchema, make))
