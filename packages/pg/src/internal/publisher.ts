/**
 * Publishing: what is published at the same time, outside of transactions,
 * shares INSERTs and commits.
 */

import type { PgClient } from "@effect/sql-pg/PgClient"
import { partitionOf } from "@surety/core/Backend"
import type { EncodedRecord } from "@surety/core/Envelope"
import { InvalidState, OutcomeUnknown, TransportError, type TransportErrorReason } from "@surety/core/TransportError"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import type * as Scope from "effect/Scope"
import { answeredRows, type Database } from "./database.ts"
import { toTransportError } from "./errors.ts"
import { fields, partitionsOf, toColumns } from "./records.ts"
import type { Signals } from "./signals.ts"
import type { TopicRow } from "./topics.ts"

/** Statements in flight at once, so that one is made ready while the others are committed, and how much one carries. */
const maxFlushers = 2
const maxRecords = 500
const maxBytes = 4 * 1024 * 1024

interface Request {
  readonly topic: TopicRow
  readonly records: ReadonlyArray<EncodedRecord>
  readonly bytes: number
  readonly done: (result: Effect.Effect<void, TransportError>) => void
}

/** Stores records by one statement. Returns the partitions that have new ones. */
export const insert = (
  db: Database,
  client: PgClient,
  topic: TopicRow,
  records: ReadonlyArray<EncodedRecord>
): Effect.Effect<ReadonlyArray<number>, TransportError> =>
  Effect.suspend(() => {
    const [text, partitions, params] = records.length === 1 ? single(db, topic, records[0]!) : many(db, topic, records)
    return answeredRows(db, text, params, client).pipe(
      Effect.mapError(toTransportError("publish", topic.name)),
      Effect.as(partitions)
    )
  })

type Insert = readonly [text: string, partitions: ReadonlyArray<number>, params: ReadonlyArray<unknown>]

const many = ({ schema }: Database, topic: TopicRow, records: ReadonlyArray<EncodedRecord>): Insert => {
  const partitions = partitionsOf(records, topic)
  return [
    `SELECT ${schema}.publish($1::integer, $2::smallint[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::bytea[])`,
    Array.from(new Set(partitions)),
    [topic.id, ...toColumns(records, partitions)]
  ]
}

/** What is most often published in a transaction of one's own: half the work of a set. */
const single = ({ schema }: Database, topic: TopicRow, record: EncodedRecord): Insert => {
  const partition = partitionOf(record, topic.partitions)
  return [
    `INSERT INTO ${schema}.log (topic, partition, log_offset, id, key, headers, published_at, payload)
    VALUES ($1, $2, nextval(${schema}.hold_horizon($1)), $3, $4, $5, $6, $7)`,
    [partition],
    [topic.id, partition, ...fields(record)]
  ]
}

export type Publisher = (
  topic: TopicRow,
  records: ReadonlyArray<EncodedRecord>,
  bytes: number
) => Effect.Effect<void, TransportError>

export const make = (db: Database, signals: Signals): Effect.Effect<Publisher, never, Scope.Scope> =>
  Effect.gen(function* () {
    const waiting = new Set<Request>()
    const inFlight = new Set<Request>()
    let flushers = 0
    let closed = false

    // After the statements were interrupted, which then answer nobody: who publishes may outlive the layer.
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        closed = true
        const unknown = new OutcomeUnknown({ detail: "the transport was closed before the acknowledgement" })
        for (const request of inFlight) request.done(refused(request.topic, unknown))
        for (const request of waiting) request.done(refused(request.topic, isClosed))
        inFlight.clear()
        waiting.clear()
      })
    )
    // In the layer's scope: forked by a caller, they would run in its transaction.
    const fork = yield* FiberSet.makeRuntime<never, void, never>()

    const store = (topic: TopicRow, requests: ReadonlyArray<Request>): Effect.Effect<void> =>
      Effect.flatMap(
        Effect.exit(
          insert(
            db,
            db.control,
            topic,
            requests.flatMap(({ records }) => records)
          )
        ),
        (exit) => {
          if (Exit.isSuccess(exit)) signals.stored(topic.id, exit.value)
          else if (requests.length > 1 && !isRetryable(exit)) {
            // One of them is at fault: the others do not fail with it.
            return Effect.forEach(requests, (request) => store(topic, [request]), { discard: true })
          }
          return Effect.sync(() => {
            for (const request of requests) {
              inFlight.delete(request)
              request.done(Exit.asVoid(exit))
            }
          })
        }
      )

    /**
     * A share of those that wait, in one statement for each topic: what is under way is spread over the statements evenly,
     * or one that began with a single request would go on with single ones.
     */
    const take = (): Array<Request> => {
      const share = Math.ceil((waiting.size + inFlight.size) / maxFlushers)
      const taken: Array<Request> = []
      let records = 0
      let bytes = 0
      for (const request of waiting) {
        waiting.delete(request)
        inFlight.add(request)
        taken.push(request)
        records += request.records.length
        bytes += request.bytes
        if (taken.length >= share || records >= maxRecords || bytes >= maxBytes) break
      }
      return taken
    }

    const flush = Effect.gen(function* () {
      // What others publish in the same turn of the event loop goes along.
      yield* Effect.yieldNow
      while (waiting.size > 0) {
        const taken = take()
        for (const requests of Map.groupBy(taken, ({ topic }) => topic.id).values()) {
          yield* store(requests[0]!.topic, requests)
        }
      }
      // In one step with the look at what waits: what comes in between would wait for nobody.
      flushers--
    })

    return (topic, records, bytes) =>
      Effect.callback((done) => {
        if (closed) return done(refused(topic, isClosed))
        const request: Request = { topic, records, bytes, done }
        waiting.add(request)
        if (flushers < maxFlushers) {
          flushers++
          fork(flush)
        }
        return Effect.sync(() => waiting.delete(request))
      })
  })

const isClosed = new InvalidState({ detail: "the transport is closed" })

const refused = (topic: TopicRow, reason: TransportErrorReason): Effect.Effect<never, TransportError> =>
  Effect.fail(new TransportError({ operation: "publish", topic: topic.name, reason }))

const isRetryable = (exit: Exit.Failure<unknown, TransportError>): boolean =>
  exit.cause.reasons.some((reason) => reason._tag === "Fail" && reason.error.isRetryable)
