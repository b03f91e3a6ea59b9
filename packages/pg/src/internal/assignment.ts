/** One partition under a lease: every change carries the epoch. */

import type { PgClient } from "@effect/sql-pg/PgClient"
import type { DeadLetter } from "@surety/core/DeadLetters"
import type { Assignment, ClaimedRecord } from "@surety/core/Transport"
import { Fenced, RecordsGone, TransportError } from "@surety/core/TransportError"
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import { answeredRows, asCourtesy, type Database, inRealTime, joined, rows } from "./database.ts"
import * as deadLetters from "./deadLetters.ts"
import { isFenced, toTransportError } from "./errors.ts"
import { type ClaimRow, toClaimed } from "./records.ts"
import * as redelivery from "./redelivery.ts"
import type { Signals } from "./signals.ts"
import type { TopicRow } from "./topics.ts"

/** The payloads of one claim, and how soon to look again for what an open transaction holds back. */
const maxClaimBytes = 8 * 1024 * 1024
const blockedMillis = 25

/** A lease, as `acquire` returns it. */
export interface Lease {
  readonly id: number
  readonly partition: number
  readonly epoch: bigint
  readonly settled: bigint
  readonly claimed: bigint
}

export interface Group {
  readonly id: number
  readonly name: string
  readonly topic: TopicRow
}

/**
 * A statement with the group, the partition and the epoch as its first
 * parameters, which finds no row when the epoch is over.
 */
export type Change = <A extends object>(
  operation: string,
  text: string,
  params?: ReadonlyArray<unknown>,
  client?: Effect.Effect<PgClient>
) => Effect.Effect<A, TransportError>

/** The condition under which the lease is held, by the first parameters of a change. */
const held = "consumer_group = $1 AND partition = $2 AND epoch = $3"

/** What the holder of a lease changes, and how it fails. */
export const changes = (db: Database, group: Group, lease: Lease) => {
  const { partition } = lease
  const { topic } = group
  const epoch = Number(lease.epoch)

  const failed = (operation: string) => {
    const toError = toTransportError(operation, topic.name)
    return (error: SqlError) => (isFenced(error) ? fenced(operation) : toError(error))
  }
  const fenced = (operation: string) =>
    new TransportError({ operation, topic: topic.name, reason: new Fenced({ group: group.name, partition, epoch }) })

  const change: Change = <A extends object>(
    operation: string,
    text: string,
    params: ReadonlyArray<unknown> = [],
    client = joined(db)
  ): Effect.Effect<A, TransportError> =>
    Effect.flatMap(client, (sql) => answeredRows<A>(db, text, [group.id, partition, epoch, ...params], sql)).pipe(
      Effect.mapError(failed(operation)),
      Effect.flatMap(([row]) => (row === undefined ? Effect.fail(fenced(operation)) : Effect.succeed(row)))
    )
  return { change, failed }
}

export const make = (
  db: Database,
  signals: Signals,
  group: Group,
  lease: Lease,
  options: {
    readonly revoked: Effect.Effect<void, TransportError>
    /** It is no longer served, whether or not the database can be told. */
    readonly released: () => void
  }
): Assignment => {
  const { partition } = lease
  const { topic } = group
  const epoch = Number(lease.epoch)
  const appended = signals.partition(topic.id, partition)
  let position = lease.settled
  const { change, failed } = changes(db, group, lease)

  const claim = (max: number): Effect.Effect<ReadonlyArray<ClaimedRecord>, TransportError> =>
    Effect.suspend(() => {
      const seen = appended.version
      return answeredRows<ClaimRow>(db, `SELECT * FROM ${db.schema}.claim($1, $2, $3, $4, $5, $6, $7)`, [
        topic.id,
        group.id,
        partition,
        epoch,
        position,
        max,
        maxClaimBytes
      ]).pipe(
        Effect.mapError(failed("claim")),
        Effect.flatMap((claimed) => {
          const blocked = claimed.length === 1 && claimed[0]!.log_offset === null
          if (claimed.length === 0 || blocked) {
            const patience = blocked ? blockedMillis : db.settings.pollMillis
            const wait = Effect.raceFirst(appended.changed(seen), inRealTime(Effect.sleep(patience)))
            return Effect.andThen(wait, claim(max))
          }
          position = claimed[claimed.length - 1]!.log_offset
          return Effect.succeed(claimed.map((row) => toClaimed(partition, row)))
        })
      )
    })

  return {
    partition,
    epoch,
    settled: Number(lease.settled),
    suspectUntil: Number(lease.claimed > lease.settled ? lease.claimed : lease.settled),
    revoked: options.revoked,
    seek: (offset) =>
      change<{ last: bigint; trimmed: bigint }>(
        "seek",
        `SELECT coalesce(pg_sequence_last_value(${db.schema}.topic_sequence($4)::regclass), 0) AS last, coalesce((
          SELECT t.log_offset FROM ${db.schema}.trimmed t WHERE t.topic = $4 AND t.partition = $2
        ), 0) AS trimmed FROM ${db.schema}.cursor WHERE ${held}`,
        [topic.id]
      ).pipe(
        Effect.flatMap(({ last, trimmed }) => {
          if (offset <= last && offset >= trimmed) {
            return Effect.sync(() => {
              position = BigInt(offset)
            })
          }
          const detail =
            offset > last ? `its last offset is ${last}` : `retention has dropped it up to offset ${trimmed}`
          const reason = new RecordsGone({ group: group.name, partition, settled: offset, detail })
          return Effect.fail(new TransportError({ operation: "seek", topic: topic.name, reason }))
        })
      ),
    claim,
    // Rule 13: the check and the advance are one statement on one row.
    settle: (offset) =>
      Effect.asVoid(
        change(
          "settle",
          // The counts are those of the holder: a stale one that is refused must not take them along.
          // Only those that are passed now are looked at, however many were kept aside before.
          `WITH passed AS (
            SELECT settled FROM ${db.schema}.cursor WHERE ${held} FOR NO KEY UPDATE
          ), counted AS (
            DELETE FROM ${db.schema}.attempt a USING passed
            WHERE a.consumer_group = $1 AND a.partition = $2 AND a.log_offset > passed.settled AND a.log_offset <= $4
              AND NOT EXISTS (
                SELECT FROM ${db.schema}.redelivery r
                WHERE r.consumer_group = a.consumer_group AND r.partition = a.partition AND r.log_offset = a.log_offset
              )
          ), advanced AS (
            -- From what was read: a row that its own statement has changed already would not be found any more.
            UPDATE ${db.schema}.cursor c SET settled = greatest(c.settled, $4) FROM passed WHERE ${held} RETURNING 1 AS held
          )
          SELECT held FROM advanced`,
          [BigInt(offset)]
        )
      ),
    fence: Effect.asVoid(change("fence", `SELECT 1 AS held FROM ${db.schema}.cursor WHERE ${held} FOR SHARE`)),
    // Rule 16: in a transaction of its own, whatever becomes of the handler's.
    count: (offset, { claims, failures }) =>
      Effect.asVoid(
        change(
          "count",
          // Late, another worker's settlement has passed it: the lock waits for one that is just doing so (invariant 22).
          `WITH held AS (
            SELECT consumer_group, partition, settled FROM ${db.schema}.cursor WHERE ${held} FOR SHARE
          ), counted AS (
            INSERT INTO ${db.schema}.attempt (consumer_group, partition, log_offset, claims, failures)
            SELECT held.consumer_group, held.partition, $4::bigint, $5::integer, $6::integer FROM held
            WHERE held.settled < $4::bigint OR EXISTS (
              SELECT FROM ${db.schema}.redelivery r
              WHERE r.consumer_group = held.consumer_group AND r.partition = held.partition AND r.log_offset = $4::bigint
            )
            ON CONFLICT (consumer_group, partition, log_offset)
              DO UPDATE SET claims = excluded.claims, failures = excluded.failures
          )
          SELECT 1 AS held FROM held`,
          [BigInt(offset), claims, failures],
          Effect.succeed(db.control)
        )
      ),
    redelivery: redelivery.make(db, signals, group, partition, change, held),
    deadLetter: (letters: ReadonlyArray<DeadLetter>) =>
      Effect.asVoid(
        change(
          "dead-letter",
          `WITH held AS (SELECT consumer_group FROM ${db.schema}.cursor WHERE ${held} FOR SHARE),
          stored AS (${deadLetters.insertSelect(db, "held.consumer_group", "held, ", 4)})
          SELECT 1 AS held FROM held`,
          deadLetters.toColumns(letters)
        )
      ),
    release: Effect.suspend(() => {
      options.released()
      return asCourtesy(
        db,
        rows(
          db.control,
          `WITH released AS (
            UPDATE ${db.schema}.lease e SET holder = NULL, expires_at = '-infinity', claimed = c.settled
            FROM ${db.schema}.cursor c
            WHERE e.consumer_group = $1 AND e.partition = $2 AND e.epoch = $3
              AND c.consumer_group = e.consumer_group AND c.partition = e.partition
            RETURNING 1
          )
          SELECT pg_notify($4, 'g' || $1::text) FROM released`,
          [group.id, partition, epoch, db.channel]
        )
      )
    }).pipe(Effect.andThen(Effect.sync(() => signals.group(group.id).notify())))
  }
}
