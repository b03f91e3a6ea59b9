/**
 * The transport on PostgreSQL: a partitioned log in tables.
 *
 * Publishing inside a transaction of the app's client is part of it: the
 * messages are there if and only if it commits, with no outbox table and no
 * relay. Outside of one, publishes that are under way at the same time share
 * INSERTs and commits, and an acknowledgement is the COMMIT.
 *
 * Readers never skip what a slow transaction commits late: they read up to the
 * *publish horizon*, which open publishing transactions hold back, and only
 * those. Neither publishers nor readers wait for each other.
 *
 * Delayed messages wait in a table of their own, by the database's clock, until
 * one of the processes that have this layer moves them into the log: within
 * milliseconds of their time while such a process runs and the one that
 * published them is alive, within the poll interval otherwise.
 *
 * Known limits: a publishing transaction that is left open holds back the
 * readers of its topics; order is the order in which offsets were drawn, which
 * for overlapping transactions need not be the order of their commits.
 *
 * @since 0.1.0
 */
import * as Acks from "@surety/core/Acks"
import { totalBytes } from "@surety/core/Backend"
import { DelayedDelivery } from "@surety/core/DelayedDelivery"
import type { EncodedRecord } from "@surety/core/Envelope"
import { type Holdback, type Progress, type TopicDeclaration, Transport } from "@surety/core/Transport"
import { InvalidState, TransportError } from "@surety/core/TransportError"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { afterCommit, inTransaction, joined, outsideTransaction, rows } from "./internal/database.ts"
import * as delayed from "./internal/delayed.ts"
import * as durability from "./internal/durability.ts"
import { toTransportError } from "./internal/errors.ts"
import * as publisher from "./internal/publisher.ts"
import * as subscription from "./internal/subscription.ts"
import * as topics from "./internal/topics.ts"
import { PgSchema } from "./PgSchema.ts"

const make = Effect.gen(function* () {
  const db = yield* PgSchema
  const {
    maxRecordBytes,
    retention: { log: logRetention }
  } = db.settings
  const declare = topics.make(db)
  const publish = yield* publisher.make(db, db.signals)
  const delayedAdded = yield* delayed.deliver(db, db.signals)

  /** Returns the bytes of all records. */
  const checkSizes = ({ name: topic }: TopicDeclaration, records: ReadonlyArray<EncodedRecord>) => {
    const total = totalBytes(records, maxRecordBytes)
    return typeof total === "number"
      ? Effect.succeed(total)
      : Effect.fail(new TransportError({ operation: "publish", topic, reason: total }))
  }

  const delayedDelivery = DelayedDelivery.of({
    store: db,
    publish: (declaration, records, due) =>
      Effect.gen(function* () {
        yield* checkSizes(declaration, records)
        if (records.length === 0) return
        const topic = yield* declare(declaration)
        yield* delayed.insert(db, yield* joined(db), topic, records, due)
        yield* afterCommit(db, () => delayedAdded.notify())
      })
  })

  const transport = Transport.of({
    characteristics: {
      name: "postgresql",
      layer: "PgTransport.layer",
      durable: "committed, as synchronous_commit of the server says",
      order: "per partition, in the order in which offsets are drawn",
      crossProcess: true,
      transactional: true,
      redelivery: true,
      ...durability.ofCommits(db.sql),
      anomalies: [
        "a publishing transaction that stays open delays the readers of its topics",
        "messages of overlapping transactions are ordered by when they were published, not by when they committed"
      ]
    },
    maxRecordBytes,
    bounds: {
      retention: logRetention === "forever" ? "forever" : Duration.millis(logRetention),
      lease: Duration.millis(db.settings.leaseMillis)
    },
    store: db,
    declare: (topic) => Effect.asVoid(declare(topic)),
    publish: (declaration, records) =>
      Effect.gen(function* () {
        const total = yield* checkSizes(declaration, records)
        if (records.length === 0) return
        const topic = yield* declare(declaration)
        if (!(yield* inTransaction(db))) return yield* publish(topic, records, total)
        const partitions = yield* publisher.insert(db, db.sql, topic, records)
        yield* afterCommit(db, () => db.signals.stored(topic.id, partitions))
      }),
    inTransaction: inTransaction(db),
    outsideTransaction: outsideTransaction(db),
    subscribe: (options) => subscription.make(db, db.signals, declare, options),
    holdbacks: (topic) =>
      rows<{ pid: number; app: string | null; state: string | null; age: number | null }>(
        db.control,
        // Rule 8. Of other roles, application, state and age are told to members of pg_read_all_stats.
        `SELECT l.pid, nullif(a.application_name, '') AS app, a.state,
          extract(epoch FROM clock_timestamp() - a.xact_start)::double precision * 1000 AS age
        FROM ${db.schema}.topic t
        JOIN pg_locks l ON l.classid = ${db.schema}.topic_sequence(t.id)
        LEFT JOIN pg_stat_activity a ON a.pid = l.pid
        WHERE t.name = $1 AND l.locktype = 'advisory' AND l.objsubid = 2
          AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        ORDER BY a.xact_start`,
        [topic]
      ).pipe(
        Effect.mapError(toTransportError("holdbacks", topic)),
        Effect.map((found) =>
          found.map(
            ({ age, app, pid, state }): Holdback => ({
              by: [`backend ${pid}`, app === null ? undefined : `of "${app}"`, state ?? undefined]
                .filter((part) => part !== undefined)
                .join(", "),
              age: age ?? undefined
            })
          )
        )
      ),
    progress: (topic, group) =>
      rows<{ partition: number; settled: bigint; unread: bigint; parked: bigint; passed: bigint }>(
        db.control,
        `SELECT c.partition, c.settled, (
          SELECT count(*) FROM ${db.schema}.log l
          WHERE l.topic = t.id AND l.partition = c.partition AND l.log_offset > c.settled
        ) AS unread, r.parked, r.passed
        FROM ${db.schema}.topic t
        JOIN ${db.schema}.consumer_group g ON g.topic = t.id
        JOIN ${db.schema}.cursor c ON c.consumer_group = g.id
        -- One that the cursor has not passed is counted with what lies beyond it.
        CROSS JOIN LATERAL (
          SELECT count(*) AS parked, count(*) FILTER (WHERE r.log_offset <= c.settled) AS passed
          FROM ${db.schema}.redelivery r WHERE r.consumer_group = g.id AND r.partition = c.partition
        ) AS r
        WHERE t.name = $1 AND g.name = $2 ORDER BY c.partition`,
        [topic, group]
      ).pipe(
        Effect.mapError(toTransportError("progress", topic)),
        Effect.flatMap((found) =>
          found.length > 0
            ? Effect.succeed(
                found.map(
                  ({ parked, partition, passed, settled, unread }): Progress => ({
                    partition,
                    settled: Number(settled),
                    lag: Number(unread + passed),
                    parked: Number(parked)
                  })
                )
              )
            : Effect.fail(
                new TransportError({
                  operation: "progress",
                  topic,
                  reason: new InvalidState({ detail: `group "${group}" is not registered` })
                })
              )
        )
      )
  })
  return Context.make(Transport, transport).pipe(Context.add(DelayedDelivery, delayedDelivery))
})

/**
 * The transport, the acknowledgement of its commits, and delayed delivery.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Transport | Acks.Acks | DelayedDelivery, never, PgSchema> = Layer.merge(
  Layer.effectContext(make),
  Acks.layer({ level: "all" })
)

/**
 * Moves the sequence of a topic's offsets past everything that is stored, and
 * restores its settings.
 *
 * **When to use**
 *
 * After a restore, a `TRUNCATE … RESTART IDENTITY` or a failover to a logical
 * replica, when building a consumer or publishing fails with `InvalidState`
 * because the sequence is behind its log.
 *
 * **Gotchas**
 *
 * Stop the publishers of the topic first.
 *
 * @category maintenance
 * @since 0.1.0
 */
export const repair = (topic: string): Effect.Effect<void, TransportError, PgSchema> =>
  Effect.flatMap(PgSchema, (db) =>
    rows(db.control, `SELECT ${db.schema}.repair_topic($1)`, [topic]).pipe(
      Effect.mapError(toTransportError("repair", topic)),
      Effect.asVoid
    )
  )

/**
 * Forgets a group for good: how far it has come, its inbox, what it keeps for
 * redelivery, and its dead letters, in one transaction.
 *
 * **When to use**
 *
 * When nobody serves the group any more. Until then it holds back the retention
 * of its topic's log.
 *
 * **Gotchas**
 *
 * Refused with `InvalidState` while a member is alive, and for a group that is
 * not registered. A consumer that registers the group again begins anew, with
 * what the log still holds, and with no memory of what was handled.
 *
 * @category maintenance
 * @since 0.1.0
 */
export const dropGroup = (topic: string, group: string): Effect.Effect<void, TransportError, PgSchema> =>
  Effect.flatMap(PgSchema, (db) =>
    rows(db.control, `SELECT ${db.schema}.drop_group($1, $2)`, [topic, group]).pipe(
      Effect.mapError(toTransportError("drop", topic)),
      Effect.asVoid
    )
  )
