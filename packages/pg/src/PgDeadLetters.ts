/**
 * The dead letters on PostgreSQL, with their bytes, headers and causes, in the
 * table `dead_letter`.
 *
 * A redrive moves them to the table `redelivery`, from which whoever holds their
 * partitions takes them, and marks their inbox rows as pending, in one
 * transaction for each batch. What another redrive or purge has in hand at that
 * moment is left to it: repeat it to be sure that none is left.
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

/** Before the first one of a group. */
const first = { partition: -1, log_offset: 0n }
type Place = Pick<DeadLetterRow, "partition" | "log_offset">

const make = (db: Database): DeadLetters["Service"] => {
  const { control, schema } = db
  const groups = `${schema}.consumer_group g JOIN ${schema}.topic t ON t.id = g.topic`
  const columns = `${ownName} AS topic, g.name AS consumer_group, d.partition, d.log_offset, d.id, d.key, d.headers,
    d.published_at, d.payload, d.failure_tag, d.failure_message, d.failure_cause, d.attempts, d.dead_at`
  const failed = (operation: string, filter: Filter | undefined) =>
    Effect.mapError(toTransportError(operation, filter?.topic ?? "*"))

  /** The groups whose dead letters the filter may find. They are gone through one by one, each in the order of its primary key. */
  const groupsOf = (filter: Filter = {}) =>
    Effect.map(
      rows<{ id: number }>(
        control,
        `SELECT g.id FROM ${groups}
        WHERE ($1::text IS NULL OR $1 IN (t.name, ${ownName})) AND ($2::text IS NULL OR g.name = $2) ORDER BY t.name, g.name`,
        [filter.topic ?? null, filter.group ?? null]
      ),
      (found) => found.map(({ id }) => id)
    )
  /** What of one group the filter finds after a place, a page of it, as parameters 1 to 6. */
  const matching = `d.consumer_group = $1 AND (d.partition, d.log_offset) > ($2::smallint, $3::bigint)
    AND ($4::text IS NULL OR d.id = $4) AND ($5::text IS NULL OR d.failure_tag = $5)
    AND ($6::timestamptz IS NULL OR d.dead_at < $6)
    ORDER BY d.partition, d.log_offset LIMIT ${pageSize}`
  const parameters = (group: number, after: Place, filter: Filter = {}): ReadonlyArray<unknown> => [
    group,
    after.partition,
    after.log_offset,
    filter.id === undefined ? null : escape(filter.id),
    filter.tag ?? null,
    filter.before === undefined ? null : new Date(filter.before)
  ]
  /** Takes out a page, but for those that another redrive or purge has in hand. */
  const taken = `picked AS (
      SELECT d.consumer_group, d.partition, d.log_offset FROM ${schema}.dead_letter d WHERE ${matching} FOR UPDATE SKIP LOCKED
    ),
    taken AS (
      DELETE FROM ${schema}.dead_letter d USING picked p
      WHERE d.consumer_group = p.consumer_group AND d.partition = p.partition AND d.log_offset = p.log_offset
      RETURNING d.*
    )`

  /** Goes through all that the filter finds, each once: what is dead again meanwhile is not found a second time. */
  const inPages = (
    filter: Filter | undefined,
    page: (group: number, after: Place) => Effect.Effect<ReadonlyArray<Place>, SqlError>
  ): Effect.Effect<number, SqlError> =>
    Effect.gen(function* () {
      let total = 0
      for (const group of yield* groupsOf(filter)) {
        let after: Place | undefined = first
        while (after !== undefined) {
          const found: ReadonlyArray<Place> = yield* page(group, after)
          total += found.length
          after = found.length < pageSize ? undefined : found[found.length - 1]
        }
      }
      return total
    })

  const redrivePage = (filter: Filter | undefined) => (group: number, after: Place) =>
    Effect.gen(function* () {
      const moved = yield* rows<Place & { readonly id: string }>(
        control,
        `WITH ${taken},
        counted AS (
          DELETE FROM ${schema}.attempt a USING taken m
          WHERE a.consumer_group = m.consumer_group AND a.partition = m.partition AND a.log_offset = m.log_offset
        ),
        parked AS (
          INSERT INTO ${schema}.redelivery (
            consumer_group, partition, log_offset, id, key, headers, published_at, payload, ordered
          )
          SELECT consumer_group, partition, log_offset, id, key, headers, published_at, payload, false FROM taken
          ON CONFLICT DO NOTHING
        )
        SELECT partition, log_offset, id FROM taken ORDER BY partition, log_offset`,
        parameters(group, after, filter)
      )
      if (moved.length === 0) return moved
      // Rule 12: from dead to pending, for that group alone.
      yield* rows(
        control,
        `UPDATE ${schema}.inbox i SET outcome = 'pending'
        WHERE i.consumer_group = $1 AND i.id = ANY ($2::text[]) AND i.outcome = 'dead'`,
        [group, moved.map(({ id }) => inboxKey(unescape(id)))]
      )
      yield* rows(control, "SELECT pg_notify($1, 'r' || $2::integer)", [db.channel, group])
      return moved
    }).pipe((page) => transaction(db, page))

  const purgePage = (filter: Filter | undefined) => (group: number, after: Place) =>
    rows<Place>(
      control,
      `WITH ${taken} SELECT partition, log_offset FROM taken ORDER BY partition, log_offset`,
      parameters(group, after, filter)
    )

  return {
    list: (filter) => {
      const page = (group: number) => (after: Place) =>
        rows<DeadLetterRow>(
          control,
          `SELECT ${columns} FROM ${schema}.dead_letter d
          JOIN ${schema}.consumer_group g ON g.id = d.consumer_group JOIN ${schema}.topic t ON t.id = g.topic
          WHERE ${matching}`,
          parameters(group, after, filter)
        ).pipe(
          failed("list", filter),
          Effect.map(
            (found) =>
              [
                found.map(toDeadLetter),
                found.length < pageSize ? Option.none() : Option.some(found[found.length - 1]!)
              ] as const
          )
        )
      return Stream.fromIterableEffect(failed("list", filter)(groupsOf(filter))).pipe(
        Stream.flatMap((group) => Stream.paginate(first as Place, page(group)))
      )
    },
    get: ({ group, offset, partition, topic }) =>
      rows<DeadLetterRow>(
        control,
        `SELECT ${columns} FROM ${groups} JOIN ${schema}.dead_letter d ON d.consumer_group = g.id
        WHERE $1 IN (t.name, ${ownName}) AND g.name = $2 AND d.partition = $3 AND d.log_offset = $4`,
        [topic, group, partition, BigInt(offset)]
      ).pipe(
        failed("get", { topic }),
        Effect.map(([row]) => (row === undefined ? Option.none() : Option.some(toDeadLetter(row))))
      ),
    redrive: (filter) => inPages(filter, redrivePage(filter)).pipe(failed("redrive", filter)),
    purge: (filter) => inPages(filter, purgePage(filter)).pipe(failed("purge", filter))
  }
}

/**
 * The dead letters.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<DeadLetters, never, PgSchema> = Layer.effect(DeadLetters, Effect.map(PgSchema, make))
