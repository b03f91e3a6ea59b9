/**
 * The relay: sends what was published here to a transport of another system.
 *
 * What waits to be sent is a topic of our own log, and the relay a consumer
 * group of it. So publishing joins transactions, what commits out of order is
 * not passed over (the publish horizon), each shard has one sender at a time,
 * by a lease with an epoch, and what cannot be sent is a dead letter.
 */

import * as Codec from "@surety/core/Codec"
import type { ConsumeError } from "@surety/core/ConsumeError"
import * as Consumer from "@surety/core/Consumer"
import type { EncodedRecord, Envelope, Headers } from "@surety/core/Envelope"
import { AtLeastOnce } from "@surety/core/Guarantee"
import * as Topic from "@surety/core/Topic"
import type { Publish, TopicDeclaration, Transport } from "@surety/core/Transport"
import type { TransportError } from "@surety/core/TransportError"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { background, type Database, inRealTime, rows } from "./database.ts"
import { toTransportError } from "./errors.ts"

export const group = "relay"

export const topicOf = (name: string): string => `surety.outbox.${name}`

/** What one call sends, and what a process that ends leaves to be sent one by one. */
const maxSize = 100
const prefetch = 200
/** How many are deleted at once. */
const trimSize = 1000

/** The only header of a record that waits: where it is to go, and the headers that it is to have there. */
const header = "surety-relay"

/** By how much a record that waits is larger, but for headers that need much escaping. */
export const addedBytes = 1024

interface Wrapped {
  readonly topic: TopicDeclaration
  readonly headers: Headers
}

export const wrap =
  (topic: TopicDeclaration) =>
  (record: EncodedRecord): EncodedRecord => {
    const wrapped: Wrapped = { topic, headers: record.headers }
    return { ...record, headers: { [header]: JSON.stringify(wrapped) } }
  }

const unwrap = ({ headers, id, key, payload, time }: Envelope<Uint8Array>) => {
  const wrapped: Wrapped = JSON.parse(headers[header]!)
  const record: EncodedRecord = { id, key, time, headers: wrapped.headers, payload }
  return { topic: wrapped.topic, record }
}

/** Payloads pass as they are. */
const bytes: Codec.Codec = {
  contentType: "application/octet-stream",
  encode: (value) => value as Uint8Array,
  decode: (payload) => payload
}

/** What the target will never take, of whatever is sent with it. Everything else is the target's trouble, and is waited for. */
const isHopeless = ({ reason: { _tag } }: TransportError): boolean =>
  _tag === "RecordTooLarge" || _tag === "TopicMismatch"

const patience = Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("5 seconds")]).pipe(
  Schedule.jittered
)

/** How often sending is repeated before it is worth a warning, and again. */
const repeatsUntilWarning = 10

interface Publisher {
  readonly epoch: number
  readonly scope: Scope.Closeable
  readonly publish: Publish
}

/** The publishers of this process: one for each shard, of the newest epoch. */
const makePublishers = Effect.fnUntraced(function* (
  db: Database,
  name: string,
  target: Transport["Service"]
): Effect.fn.Return<(shard: number, epoch: number) => Effect.Effect<Publish, TransportError>, never, Scope.Scope> {
  const { fencedPublisher } = target
  if (fencedPublisher === undefined) return () => Effect.succeed(target.publish)
  const scope = yield* Effect.scope
  const open = new Map<number, Publisher>()
  const opening = Semaphore.makeUnsafe(1)

  /** Under its name alone the outboxes of two databases would fence each other at their target. */
  const identity = rows<{ identity: string }>(
    db.control,
    `SELECT t.identity::text AS identity FROM ${db.schema}.topic t WHERE t.name = $1`,
    [topicOf(name)]
  ).pipe(
    Effect.map(([row]) => `${name}-${row!.identity}`),
    Effect.mapError(toTransportError("lease", topicOf(name)))
  )

  /** Whether no later holder of the shard is known here. */
  const isLatest = (shard: number, epoch: number) =>
    rows<{ epoch: bigint }>(
      db.control,
      `SELECT c.epoch FROM ${db.schema}.topic t JOIN ${db.schema}.consumer_group g ON g.topic = t.id
      JOIN ${db.schema}.cursor c ON c.consumer_group = g.id
      WHERE t.name = $1 AND g.name = $2 AND c.partition = $3`,
      [topicOf(name), group, shard]
    ).pipe(
      Effect.map(([row]) => Number(row?.epoch) === epoch),
      Effect.mapError(toTransportError("lease", topicOf(name)))
    )

  const close = (shard: number) =>
    Effect.suspend(() => {
      const publisher = open.get(shard)
      open.delete(shard)
      return publisher === undefined ? Effect.void : Scope.close(publisher.scope, Exit.void)
    })

  /** Undefined where the shard is lost. */
  const publisherOf = (shard: number, epoch: number): Effect.Effect<Publish | undefined, TransportError> =>
    Effect.gen(function* () {
      const known = open.get(shard)
      if (known?.epoch === epoch) return known.publish
      yield* close(shard)
      const own = yield* Scope.fork(scope)
      const fenced = yield* fencedPublisher({ name: yield* identity, shard, epoch }).pipe(
        Effect.provideService(Scope.Scope, own),
        Effect.onError(() => Scope.close(own, Exit.void))
      )
      // Rule 25: after opening, or a zombie that was frozen until now would fence its successor, and send what is long sent.
      if (!(yield* isLatest(shard, epoch))) {
        yield* Scope.close(own, Exit.void)
        return undefined
      }
      const one = Semaphore.makeUnsafe(1)
      const publish: Publish = (topic, records) =>
        Effect.tapError(one.withPermit(fenced(topic, records)), ({ reason }) =>
          // By a zombie that opened its own later: ours is opened again, which tells who is the latest.
          reason._tag === "Fenced" && open.get(shard)?.publish === publish ? close(shard) : Effect.void
        )
      open.set(shard, { epoch, scope: own, publish })
      return publish
    }).pipe(opening.withPermit)

  return (shard, epoch) =>
    // One that has lost the shard is about to be told so: its handler is interrupted then.
    Effect.flatMap(publisherOf(shard, epoch), (publish) =>
      publish === undefined ? Effect.never : Effect.succeed(publish)
    )
})

/** Sends what waits, while the scope is open. */
export const send = Effect.fnUntraced(function* (
  db: Database,
  guarantee: AtLeastOnce["Service"],
  target: Transport["Service"],
  name: string,
  shards: number
): Effect.fn.Return<void, ConsumeError, Scope.Scope> {
  const publisherOf = yield* makePublishers(db, name, target)
  const { characteristics } = target

  const publish = (shard: number, epoch: number, topic: TopicDeclaration, records: ReadonlyArray<EncodedRecord>) => {
    let failures = 0
    return Effect.flatMap(publisherOf(shard, epoch), (send) => send(topic, records)).pipe(
      Effect.tapError((error) =>
        Effect.suspend(() =>
          isHopeless(error)
            ? Effect.void
            : ++failures % repeatsUntilWarning === 0
              ? Effect.logWarning(
                  `the relay waits for the ${characteristics.name} transport, which has failed ${failures} times: ${error.message}`
                )
              : Effect.logDebug(`the relay tries again: ${error.message}`)
        )
      ),
      Effect.retry({ schedule: patience, while: (error) => !isHopeless(error) }),
      inRealTime
    )
  }

  const Waiting = Topic.make(topicOf(name), { schema: Schema.Any, guarantee: "at-least-once", partitions: shards })
  const relay = Consumer.makeBatch(Waiting, {
    group,
    concurrency: shards,
    maxSize,
    prefetch,
    handlerTimeout: "Infinity",
    // The target is waited for; what it will never take is not worth a schedule.
    redeliverAfter: "Infinity",
    restart: Schedule.spaced("5 seconds"),
    handler: Effect.fnUntraced(function* (messages) {
      const { epoch, partition } = messages[0]!
      // In draw order of each topic, and with it of each key.
      const inOrder = messages.toSorted((a, b) => a.offset - b.offset).map(unwrap)
      for (const sent of Map.groupBy(inOrder, ({ topic }) => topic.name).values()) {
        yield* publish(
          partition,
          epoch,
          sent[0]!.topic,
          sent.map(({ record }) => record)
        )
      }
    })
  }).pipe(Consumer.orDeadLetter)

  const running = yield* Consumer.start(relay).pipe(
    Effect.provideService(Codec.CurrentCodec, bytes),
    Effect.provideService(AtLeastOnce, guarantee)
  )
  yield* Effect.forkScoped(
    Effect.catchCause(running.failure, (cause) => Effect.logError(`the relay "${name}" has stopped`, cause))
  )

  /** What was sent need not be kept. Returns whether there is more. */
  const trim = rows(
    db.control,
    `WITH sent AS (
      SELECT l.topic, l.partition, l.log_offset
      FROM ${db.schema}.topic t JOIN ${db.schema}.consumer_group g ON g.topic = t.id
      JOIN ${db.schema}.cursor c ON c.consumer_group = g.id
      CROSS JOIN LATERAL (
        SELECT l.topic, l.partition, l.log_offset FROM ${db.schema}.log l
        WHERE l.topic = t.id AND l.partition = c.partition AND l.log_offset <= c.settled
        ORDER BY l.log_offset LIMIT ${trimSize}
      ) AS l
      WHERE t.name = $1 AND g.name = $2 LIMIT ${trimSize}
    )
    DELETE FROM ${db.schema}.log l USING sent s
    WHERE l.topic = s.topic AND l.partition = s.partition AND l.log_offset = s.log_offset RETURNING 1`,
    [topicOf(name), group]
  ).pipe(
    Effect.map((deleted) => deleted.length === trimSize),
    Effect.catch((error) => Effect.as(Effect.logDebug("what was sent is not deleted for now", error), false)),
    Effect.flatMap((more) => Effect.sleep(more ? 10 : db.settings.pollMillis))
  )
  yield* background(Effect.forever(trim))
})
