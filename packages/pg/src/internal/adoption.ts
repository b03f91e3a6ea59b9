/**
 * A transport of another store in front of the database (rule 24): it hands out
 * partitions and records, and everything that a lease protects is kept here,
 * under an epoch of our own, which a transaction can check.
 */
import { Signal } from "@surety/core/Backend"
import type { Assignment, ClaimedRecord, SubscribeOptions, Subscription, Transport } from "@surety/core/Transport"
import { InvalidState, TransportError } from "@surety/core/TransportError"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as assignment from "./assignment.ts"
import { afterCommit, asCourtesy, type Database, inRealTime, rows } from "./database.ts"
import { toTransportError } from "./errors.ts"
import type { Signals } from "./signals.ts"

type Source = Transport["Service"]

/** As a topic of another transport is called in our tables. No topic of ours has a colon in its name. */
export const topicName = ({ characteristics }: Source, topic: string): string => `${characteristics.name}:${topic}`

/** The name without its transport, of the topics `t`. */
export const ownName = "substring(t.name from '[^:]*$')"

export const adopt = (db: Database, signals: Signals, source: Source): Source => {
  const name = (topic: string) => topicName(source, topic)
  return {
    ...source,
    characteristics: { ...source.characteristics, redelivery: true },
    subscribe: (options) => subscribe(db, signals, source, options),
    progress: (topic, group) =>
      Effect.gen(function* () {
        const there = yield* source.progress(topic, group)
        const here = yield* rows<{ partition: number; settled: bigint; parked: bigint }>(
          db.control,
          `SELECT c.partition, c.settled, (
            SELECT count(*) FROM ${db.schema}.redelivery r WHERE r.consumer_group = g.id AND r.partition = c.partition
          ) AS parked
          FROM ${db.schema}.topic t
          JOIN ${db.schema}.consumer_group g ON g.topic = t.id
          JOIN ${db.schema}.cursor c ON c.consumer_group = g.id
          WHERE t.name = $1 AND g.name = $2`,
          [name(topic), group]
        ).pipe(Effect.mapError(toTransportError("progress", topic)))
        const kept = new Map(here.map((row) => [row.partition, row]))
        return there.map((known) => {
          const row = kept.get(known.partition)
          if (row === undefined) return known
          const parked = Number(row.parked)
          return { ...known, settled: Number(row.settled), lag: known.lag + parked, parked }
        })
      })
  }
}

/** Who keeps the progress of which group here, in this process: of two transports of one kind, one would take it for its own. */
const adopters = new WeakMap<Database, Map<string, Set<{ readonly store: object }>>>()

const claimGroup = (db: Database, source: Source, { group, topic }: SubscribeOptions) =>
  Effect.acquireRelease(
    Effect.suspend(() => {
      const groups = adopters.get(db) ?? new Map<string, Set<{ readonly store: object }>>()
      adopters.set(db, groups)
      const key = JSON.stringify([topicName(source, topic.name), group])
      const users = groups.get(key) ?? new Set()
      groups.set(key, users)
      const entry = { store: source.store }
      for (const { store } of users) {
        if (store === entry.store) continue
        const detail = `two ${source.characteristics.name} transports have a topic of this name, and group "${group}" consumes both; give one of the groups another name`
        return Effect.fail(
          new TransportError({ operation: "subscribe", topic: topic.name, reason: new InvalidState({ detail }) })
        )
      }
      users.add(entry)
      return Effect.succeed({ users, entry })
    }),
    ({ entry, users }) => Effect.sync(() => users.delete(entry))
  )

const subscribe = Effect.fnUntraced(function* (
  db: Database,
  signals: Signals,
  source: Source,
  options: SubscribeOptions
): Effect.fn.Return<Subscription, TransportError, Scope.Scope> {
  yield* claimGroup(db, source, options)
  const scope = yield* Effect.scope
  const subscription = yield* source.subscribe(options)
  const { name } = options.topic
  // Registered before anybody is told so: from now on no message is before its beginning.
  const start = yield* source.progress(name, options.group)
  const [registered] = yield* rows<{ topic: number; consumer_group: number }>(
    db.control,
    `SELECT * FROM ${db.schema}.adopt_group($1, $2, $3::integer[], $4::bigint[])`,
    [
      topicName(source, name),
      options.group,
      start.map(({ partition }) => partition),
      start.map(({ settled }) => BigInt(settled))
    ]
  ).pipe(Effect.mapError(toTransportError("subscribe", name)))
  const group: assignment.Group = {
    id: registered!.consumer_group,
    name: options.group,
    topic: { id: registered!.topic, name, partitions: options.topic.partitions }
  }

  const take = Effect.fnUntraced(function* (given: Assignment): Effect.fn.Return<Assignment, TransportError> {
    // Who has lost the partition meanwhile must not take it from its successor.
    yield* given.fence
    const [lease] = yield* rows<assignment.Lease>(db.control, `SELECT * FROM ${db.schema}.adopt($1, $2, $3)`, [
      group.id,
      given.partition,
      BigInt(given.settled)
    ]).pipe(Effect.mapError(toTransportError("lease", name)))
    yield* rows(db.control, `SELECT ${db.schema}.sweep($1::integer[], $2::bigint[])`, [
      [lease!.id],
      [lease!.epoch]
    ]).pipe(Effect.mapError(toTransportError("lease", name)))
    // Never where the source would begin: what it has dropped meanwhile is missed, and not passed over.
    yield* given.seek(Number(lease!.settled))
    return yield* serve(db, signals, group, lease!, given, scope)
  })

  const next: Subscription["next"] = Effect.gen(function* () {
    while (true) {
      const given = yield* subscription.next
      const taken = yield* Effect.raceFirst(
        take(given).pipe(
          Effect.retry({ schedule: Schedule.spaced(db.settings.pollMillis), while: ({ isRetryable }) => isRetryable }),
          inRealTime
        ),
        Effect.as(given.revoked, undefined)
      ).pipe(
        Effect.catchIf(
          ({ reason }) => reason._tag === "Fenced",
          () => Effect.undefined
        )
      )
      if (taken !== undefined) return taken
      yield* given.release
    }
  })
  return { next, leave: subscription.leave }
})

/** An assignment of another transport under a lease of ours. */
const serve = Effect.fnUntraced(function* (
  db: Database,
  signals: Signals,
  group: assignment.Group,
  lease: assignment.Lease,
  given: Assignment,
  scope: Scope.Scope
): Effect.fn.Return<Assignment> {
  const ours = assignment.make(db, signals, group, lease, { revoked: given.revoked, released: () => {} })
  const { change } = assignment.changes(db, group, lease)

  /** Claimed from the source, which will not give them again, and not yet marked here. */
  let unmarked: ReadonlyArray<ClaimedRecord> = []
  /** Rule 16: the claim is stored before the records are handed out. */
  const mark = (records: ReadonlyArray<ClaimedRecord>) =>
    change<{ offsets: ReadonlyArray<bigint>; claims: ReadonlyArray<number>; failures: ReadonlyArray<number> }>(
      "claim",
      `WITH held AS (
        UPDATE ${db.schema}.lease SET claimed = greatest(claimed, $4)
        WHERE consumer_group = $1 AND partition = $2 AND epoch = $3 RETURNING consumer_group, partition
      )
      SELECT coalesce(array_agg(a.log_offset) FILTER (WHERE a.log_offset IS NOT NULL), '{}') AS offsets,
        coalesce(array_agg(a.claims) FILTER (WHERE a.log_offset IS NOT NULL), '{}') AS claims,
        coalesce(array_agg(a.failures) FILTER (WHERE a.log_offset IS NOT NULL), '{}') AS failures
      FROM held LEFT JOIN ${db.schema}.attempt a
        ON a.consumer_group = held.consumer_group AND a.partition = held.partition AND a.log_offset BETWEEN $5 AND $4
      GROUP BY held.consumer_group`,
      [BigInt(records[records.length - 1]!.offset), BigInt(records[0]!.offset)],
      Effect.succeed(db.control)
    )

  /** What the source is told once it is committed: for its own lag and retention, and nothing goes by it here. */
  let settled = Number(lease.settled)
  const advanced = new Signal()
  const tell = Effect.suspend(() => {
    const seen = advanced.version
    return Effect.andThen(given.settle(settled), advanced.changed(seen))
  }).pipe(
    Effect.catch((error) =>
      Effect.andThen(
        Effect.logDebug(`the source does not know how far the group has come: ${error.message}`),
        Effect.sleep(db.settings.pollMillis)
      )
    )
  )
  const telling = yield* Effect.forkIn(inRealTime(Effect.forever(tell)), scope)

  return {
    ...ours,
    seek: given.seek,
    claim: (max) =>
      Effect.gen(function* () {
        if (unmarked.length === 0) unmarked = yield* given.claim(max)
        const records = unmarked
        const { claims, failures, offsets } = yield* mark(records)
        unmarked = []
        const attempts = new Map(
          offsets.map((offset, index) => [Number(offset), { claims: claims[index]!, failures: failures[index]! }])
        )
        return records.map((record) => ({ ...record, attempts: attempts.get(record.offset) }))
      }),
    settle: (offset) =>
      Effect.gen(function* () {
        yield* ours.settle(offset)
        yield* afterCommit(db, () => {
          settled = Math.max(settled, offset)
          advanced.notify()
        })
      }),
    release: asCourtesy(
      db,
      Effect.andThen(
        Fiber.interrupt(telling),
        Effect.suspend(() => given.settle(settled))
      )
    ).pipe(Effect.andThen(ours.release), Effect.andThen(given.release))
  }
})
