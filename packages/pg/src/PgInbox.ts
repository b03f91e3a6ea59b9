/**
 * The inbox on PostgreSQL: handlers run in transactions of the app's client,
 * which hold the inbox rows, the handlers' SQL, the messages they publish and
 * the progress of their partition.
 *
 * A worker that is frozen inside such a transaction does not block its
 * successor: taking over its partition ends its session first, and its COMMIT
 * fails.
 *
 * It remembers what was settled for as long as the schema's `retention.inbox`
 * says, for ever by default.
 *
 * Known limits: where the connections' default is REPEATABLE READ or
 * SERIALIZABLE, that is kept, and a transaction is repeated when the cursor of
 * its partition has moved since it began: with a `concurrency` above 1, a slow
 * handler runs again while faster ones pass. A handler that leaves its
 * transaction idle for an hour loses it, unless the server's
 * `idle_in_transaction_session_timeout` says otherwise.
 *
 * @since 0.1.0
 */

import * as PgClient from "@effect/sql-pg/PgClient"
import * as Backend from "@surety/core/Backend"
import { CompositionError } from "@surety/core/Guarantee"
import { type Holder, Inbox } from "@surety/core/Inbox"
import { Transaction } from "@surety/core/Transaction"
import type { Transport } from "@surety/core/Transport"
import { Fenced, InvalidState, TransportError } from "@surety/core/TransportError"
import type * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as adoption from "./internal/adoption.ts"
import { answeredTransaction, asCourtesy, isUnanswered, rows } from "./internal/database.ts"
import * as deadLetters from "./internal/deadLetters.ts"
import * as durability from "./internal/durability.ts"
import {
  codeOf,
  type Found,
  infrastructureErrors,
  isForeign,
  isInfrastructure,
  toTransportError
} from "./internal/errors.ts"
import { inboxKey } from "./internal/text.ts"
import { PgSchema } from "./PgSchema.ts"

/** What the body failed with, to tell it from failures of BEGIN and COMMIT. */
class BodyFailed<E> extends Data.TaggedError("BodyFailed")<{ readonly error: E }> {}

const make = Effect.gen(function* () {
  const db = yield* PgSchema
  const { sql } = db

  // Rule 23: without it a commit that was reported is lost when the server stops hard.
  const explaining = yield* Backend.explaining
  const [server] = explaining
    ? []
    : yield* Effect.mapError(
        rows<{ durability: string }>(sql, "SELECT current_setting('synchronous_commit') AS durability", []),
        toTransportError("inbox", "*")
      )
  const setting = server === undefined ? durability.configured(sql) : server.durability
  if (durability.isOff(setting)) {
    return yield* new CompositionError({
      guarantee: "exactly-once",
      detail: "synchronous_commit is off, so that commits may be lost after they were reported; set it to on, or local"
    })
  }

  /** Errors of other databases, which handlers failed with: no fault of ours, and attempts as any other. */
  const foreign = new WeakSet<SqlError>()
  const probe = (cause: Cause.Cause<unknown>): Effect.Effect<void> => {
    const suspects = infrastructureErrors(cause, foreign)
    if (suspects.length === 0) return Effect.void
    return rows<Found>(
      sql,
      "SELECT pg_backend_pid() AS pid, current_setting('transaction_isolation') AS isolation",
      []
    ).pipe(
      Effect.map(([found]): Found | "aborted" => found!),
      Effect.catchIf(
        (error) => codeOf(error) === "25P02",
        () => Effect.succeed("aborted" as const)
      ),
      Effect.andThen((found) =>
        Effect.sync(() => {
          for (const error of suspects) if (isForeign(error, found)) foreign.add(error)
        })
      ),
      Effect.ignore
    )
  }

  /** The inbox of our own transport, or of one of another store. */
  const inboxOf = (source: Transport["Service"] | undefined): Inbox["Service"] => {
    const groups = new Map<string, number>()
    const groupKey = ({ group, topic }: { readonly topic: string; readonly group: string }) =>
      JSON.stringify([topic, group])
    const nameOf = (topic: string) => (source === undefined ? topic : adoption.topicName(source, topic))

    /** Rule 14: the transaction's first statement records its backend, and refuses an epoch that is over. */
    const begin = (holder: Holder): Effect.Effect<void, TransportError> =>
      rows<{ consumer_group: number | null }>(
        sql,
        `SELECT ${db.schema}.begin_settlement($1, $2, $3, $4) AS consumer_group`,
        [nameOf(holder.topic), holder.group, holder.partition, holder.epoch]
      ).pipe(
        Effect.mapError(toTransportError("transaction", holder.topic)),
        Effect.flatMap(([row]) => {
          if (row!.consumer_group === null) {
            const { epoch, group, partition, topic } = holder
            const reason = new Fenced({ group, partition, epoch })
            return Effect.fail(new TransportError({ operation: "transaction", topic, reason }))
          }
          groups.set(groupKey(holder), row!.consumer_group)
          return Effect.void
        })
      )

    /** Rule 14: a transaction of ours that was given up may still be open on the server, and its repeat would wait for it. */
    const endOpen = (holder: Holder) =>
      asCourtesy(
        db,
        rows(
          db.control,
          `SELECT ${db.schema}.sweep(array_agg(c.id), array_agg($3::bigint)) FROM ${db.schema}.cursor c
          WHERE c.consumer_group = $1 AND c.partition = $2`,
          [groups.get(groupKey(holder)) ?? null, holder.partition, holder.epoch]
        )
      )

    const transaction = <A, E, R>(holder: Holder, body: Effect.Effect<A, E, R>) =>
      Effect.andThen(begin(holder), Effect.tapCause(body, probe)).pipe(
        Effect.mapError((error) => new BodyFailed({ error })),
        (transaction) => answeredTransaction(db, transaction),
        Effect.tapError((error) => (isUnanswered(error) ? endOpen(holder) : Effect.void)),
        Effect.mapError((error) =>
          error instanceof BodyFailed ? error.error : toTransportError("transaction", holder.topic)(error)
        ),
        // Whatever the app calls its client: the handler's SQL is in the message's transaction.
        Effect.provideService(SqlClient.SqlClient, sql),
        Effect.provideService(PgClient.PgClient, sql),
        Effect.provideService(Transaction, { store: db, afterCommit: sql.afterCommit })
      )

    return Inbox.of({
      store: db,
      description: {
        layer: "PgInbox.layer",
        promise: "the inbox row, the handler's SQL and the progress commit in one transaction, or not at all",
        gaps: [],
        assumptions: [durability.synchronousCommit(explaining ? "checked at start" : "read")],
        possible:
          source === undefined
            ? []
            : [
                `a group whose next messages the ${source.characteristics.name} transport no longer holds stops, and says which (RecordsGone)`
              ]
      },
      retention: db.settings.retention.inbox === "forever" ? "forever" : Duration.millis(db.settings.retention.inbox),
      transaction: transaction as Inbox["Service"]["transaction"],
      admit: (holder, entries) =>
        Effect.suspend(() => {
          // Rule 11: of equal ids the first is admitted; rows are inserted in the order of their keys.
          const keys = entries.map(({ id }) => inboxKey(id))
          const first = new Map<string, number>()
          for (const [index, key] of keys.entries()) if (!first.has(key)) first.set(key, index)
          return rows<{ id: string }>(
            sql,
            // What was settled before is told, since mostly nothing was.
            `WITH admitted AS (
              INSERT INTO ${db.schema}.inbox (consumer_group, id, outcome)
              SELECT $1, e.id, e.outcome FROM unnest($2::text[], $3::text[]) AS e(id, outcome) ORDER BY e.id COLLATE "C"
              ON CONFLICT (consumer_group, id) DO UPDATE SET outcome = excluded.outcome, settled_at = excluded.settled_at
                WHERE inbox.outcome = 'pending'
              RETURNING id
            )
            SELECT e.id FROM unnest($2::text[]) AS e(id) EXCEPT SELECT a.id FROM admitted a`,
            [
              groups.get(groupKey(holder)),
              Array.from(first.keys()),
              Array.from(first.values(), (index) => entries[index]!.outcome)
            ]
          ).pipe(
            Effect.mapError(toTransportError("admit", holder.topic)),
            Effect.map((settled) => {
              const before = new Set(settled.map(({ id }) => id))
              return keys.map((key, index) => first.get(key) === index && !before.has(key))
            })
          )
        }),
      deadLetter: (letters) =>
        Effect.forEach(
          // One batch is of one group; the seam does not say so.
          Map.groupBy(letters, groupKey),
          ([group, ofGroup]) =>
            rows(sql, deadLetters.insertSelect(db, "$1::integer", "", 2), [
              groups.get(group),
              ...deadLetters.toColumns(ofGroup)
            ]).pipe(Effect.mapError(toTransportError("dead-letter", ofGroup[0]!.topic))),
          { discard: true }
        ),
      isInfrastructure: (error) => isInfrastructure(error, foreign),
      adopt: (transport) => ({ transport: adoption.adopt(db, db.signals, transport), inbox: inboxOf(transport) })
    })
  }
  return inboxOf(undefined)
})

/**
 * The inbox.
 *
 * **Gotchas**
 *
 * Refused with a `CompositionError` where the app's connections have
 * `synchronous_commit = off`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Inbox, CompositionError | TransportError, PgSchema> = Layer.effect(Inbox, make)

/**
 * Where a group of another system's topic stands: to be moved from there.
 *
 * @category models
 * @since 0.1.0
 */
export interface Position {
  /** Its transport's name, a colon, and its own: `kafka:payments`. */
  readonly topic: string
  readonly group: string
  readonly partition: number
  /** The last offset that is to count as settled. */
  readonly offset: number
}

/**
 * Moves a group that consumes a topic of another system: its next record is
 * the first one after `offset`.
 *
 * **When to use**
 *
 * When its consumer has stopped with `RecordsGone`, and what is gone cannot be
 * restored: forward, to accept the loss, or to the beginning of a topic that was
 * made anew.
 *
 * **Gotchas**
 *
 * What is passed over is not handled. What is gone back over is not handled
 * twice, where its ids are known. A consumer that holds the partition loses it,
 * and goes on from here.
 *
 * @category maintenance
 * @since 0.1.0
 */
export const moveTo = ({ group, offset, partition, topic }: Position): Effect.Effect<void, TransportError, PgSchema> =>
  Effect.flatMap(PgSchema, (db) =>
    rows(
      db.control,
      `WITH moved AS (
        UPDATE ${db.schema}.cursor c SET settled = $4, epoch = c.epoch + 1
        FROM ${db.schema}.topic t JOIN ${db.schema}.consumer_group g ON g.topic = t.id
        WHERE t.name = $1 AND strpos(t.name, ':') > 0 AND g.name = $2 AND c.consumer_group = g.id AND c.partition = $3
        RETURNING c.consumer_group, c.partition, c.epoch
      )
      UPDATE ${db.schema}.lease e SET claimed = $4, epoch = m.epoch FROM moved m
      WHERE e.consumer_group = m.consumer_group AND e.partition = m.partition RETURNING 1`,
      [topic, group, partition, BigInt(offset)]
    ).pipe(
      Effect.mapError(toTransportError("move", topic)),
      Effect.flatMap((moved) => {
        if (moved.length > 0) return Effect.void
        const detail = `group "${group}" has no partition ${partition} of a topic of another system of this name, as in "kafka:payments"`
        return Effect.fail(new TransportError({ operation: "move", topic, reason: new InvalidState({ detail }) }))
      })
    )
  )
