/** Records that are kept aside until they are due (rule 19). */
import type { ParkedRecord, Redelivery } from "@surety/core/Transport"
import * as Effect from "effect/Effect"
import type { Change, Group } from "./assignment.ts"
import { answeredRows, type Database, inRealTime } from "./database.ts"
import * as deadLetters from "./deadLetters.ts"
import { toTransportError } from "./errors.ts"
import { type ClaimRow, fieldColumns, toClaimed } from "./records.ts"
import type { Signals } from "./signals.ts"
import { unescape } from "./text.ts"

interface ParkedRow {
  readonly log_offset: bigint
  readonly key: string | null
  readonly due_at: Date | null
}

/** A redrive whose notification was lost is found at every so many polls. */
const pollsUntilFound = 10

export const make = (
  db: Database,
  signals: Signals,
  group: Group,
  partition: number,
  change: Change,
  /** The condition under which the lease is held. */
  held: string
): Redelivery => {
  const failed = toTransportError("redelivery", group.topic.name)
  const redriven = signals.redriven(group.id)
  let seen = redriven.version
  return {
    added: Effect.suspend(() =>
      Effect.raceFirst(redriven.changed(seen), inRealTime(Effect.sleep(db.settings.pollMillis * pollsUntilFound)))
    ).pipe(
      Effect.andThen(
        Effect.sync(() => {
          seen = redriven.version
        })
      )
    ),
    list: (after, max) =>
      answeredRows<ParkedRow>(
        db,
        `SELECT log_offset, CASE WHEN ordered THEN key END AS key, due_at FROM ${db.schema}.redelivery
        WHERE consumer_group = $1 AND partition = $2 AND log_offset > $3 ORDER BY log_offset LIMIT $4`,
        [group.id, partition, BigInt(after), max]
      ).pipe(
        Effect.mapError(failed),
        Effect.map((parked) =>
          parked.map(
            (row): ParkedRecord => ({
              offset: Number(row.log_offset),
              key: row.key === null ? undefined : unescape(row.key),
              dueAt: row.due_at?.getTime()
            })
          )
        )
      ),
    // Rule 13: the lock that the settlement takes after it, from the start: two lanes that share one would wait for each other.
    park: (records) =>
      Effect.asVoid(
        change(
          "park",
          `WITH held AS (SELECT consumer_group, partition FROM ${db.schema}.cursor WHERE ${held} FOR NO KEY UPDATE),
          due AS (
            SELECT p.log_offset, p.id, p.key, p.headers, p.published_at, p.payload,
              CASE WHEN p.due_at >= 0 THEN to_timestamp(p.due_at / 1000.0) END AS due_at
            FROM unnest($4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::timestamptz[], $10::bytea[])
              AS p(log_offset, due_at, id, key, headers, published_at, payload)
          ),
          again AS (
            UPDATE ${db.schema}.redelivery r SET due_at = due.due_at FROM held, due
            WHERE r.consumer_group = held.consumer_group AND r.partition = held.partition AND r.log_offset = due.log_offset
          ),
          parked AS (
            INSERT INTO ${db.schema}.redelivery (
              consumer_group, partition, log_offset, id, key, headers, published_at, payload, due_at, stored_at
            )
            -- Rule 22: as old as it was in the log.
            SELECT held.consumer_group, held.partition, due.log_offset, due.id, due.key, due.headers, due.published_at, due.payload, due.due_at,
              coalesce(l.stored_at, clock_timestamp())
            FROM held CROSS JOIN due
            LEFT JOIN ${db.schema}.log l ON l.topic = $11 AND l.partition = $2 AND l.log_offset = due.log_offset
            ON CONFLICT DO NOTHING
          )
          SELECT 1 AS held FROM held`,
          [
            records.map(({ offset }) => BigInt(offset)),
            // The client wants the elements of an array to be of one size.
            records.map(({ dueAt }) => BigInt(Math.ceil(dueAt ?? -1))),
            ...fieldColumns(records.map(({ key, record }) => ({ ...record, key }))),
            group.topic.id
          ]
        )
      ),
    read: (offsets) =>
      answeredRows<ClaimRow>(
        db,
        `SELECT r.*, a.claims, a.failures
        FROM ${db.schema}.redelivery r
        LEFT JOIN ${db.schema}.attempt a USING (consumer_group, partition, log_offset)
        WHERE r.consumer_group = $1 AND r.partition = $2 AND r.log_offset = ANY ($3::bigint[]) ORDER BY r.log_offset`,
        [group.id, partition, offsets.map(BigInt)]
      ).pipe(
        Effect.mapError(failed),
        Effect.map((found) => found.map((row) => toClaimed(partition, row)))
      ),
    settle: (offsets, letters) =>
      Effect.asVoid(
        change(
          "settle",
          `WITH held AS (SELECT consumer_group, partition FROM ${db.schema}.cursor WHERE ${held} FOR NO KEY UPDATE),
          counted AS (
            DELETE FROM ${db.schema}.attempt a USING held
            WHERE a.consumer_group = held.consumer_group AND a.partition = held.partition AND a.log_offset = ANY ($4::bigint[])
          ),
          parked AS (
            DELETE FROM ${db.schema}.redelivery r USING held
            WHERE r.consumer_group = held.consumer_group AND r.partition = held.partition AND r.log_offset = ANY ($4::bigint[])
          )${letters.length === 0 ? "" : `, letters AS (${deadLetters.insertSelect(db, "held.consumer_group", "held, ", 5)})`}
          SELECT 1 AS held FROM held`,
          [offsets.map(BigInt), ...(letters.length === 0 ? [] : deadLetters.toColumns(letters))]
        )
      )
  }
}
