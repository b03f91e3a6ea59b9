/**
 * Publishing: what is published at the same time, outside of transactions,
 * shares INSERTs and commits.
 */

import type { PgClient } from "@effect/sql-pg/PgClient"
import type { EncodedRecord } from "@surety/core/Envelope"
import type { TransportError } from "@surety/core/TransportError"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import { type Database, rows } from "./database.ts"
import { toTransportError } from "./errors.ts"
import { toColumns } from "./records.ts"
import type { Signals } from "./signals.ts"
import type { TopicRow } from "./topics.ts"

/** Statements in flight at once, requests that wait for one, and how much one carries. */
const flushers = 3
const maxWaiting = 1024
const maxRecords = 500
const maxBytes = 4 * 1024 * 1024

interface Request {
  readonly topic: TopicRow
  readonly records: ReadonlyArray<EncodedRecord>
  readonly bytes: number
  readonly done: Deferred.Deferred<void, TransportError>
  abandoned: boolean
}

/** Stores records by one statement. Returns the partitions that have new ones. */
export const insert = (
  db: Database,
  client: PgClient,
  topic: TopicRow,
  records: ReadonlyArray<EncodedRecord>
): Effect.Effect<ReadonlySet<number>, TransportError> =>
  Effect.suspend(() => {
    const columns = toColumns(records, topic.partitions)
    return rows(
      client,
      `SELECT ${db.schema}.publish($1::integer, $2::smallint[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::bytea[])`,
      [topic.id, ...columns]
    ).pipe(Effect.mapError(toTransportError("publish", topic.name)), Effect.as(new Set(columns[0])))
  })

export type Publisher = (
  topic: TopicRow,
  records: ReadonlyArray<EncodedRecord>,
  bytes: number
) => Effect.Effect<void, TransportError>

export const make = (db: Database, signals: Signals): Effect.Effect<Publisher, never, Scope.Scope> =>
  Effect.gen(function* () {
    const waiting = yield* Queue.bounded<Request>(maxWaiting)

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
            for (const { done } of requests) Deferred.doneUnsafe(done, Exit.asVoid(exit))
          })
        }
      )

    const flush = Effect.gen(function* () {
      const first = yield* Queue.take(waiting)
      const byTopic = new Map<number, Array<Request>>()
      let records = 0
      let bytes = 0
      let next: Request | undefined = first
      while (next !== undefined) {
        if (!next.abandoned) {
          const requests = byTopic.get(next.topic.id)
          if (requests === undefined) byTopic.set(next.topic.id, [next])
          else requests.push(next)
          records += next.records.length
          bytes += next.bytes
        }
        next = records < maxRecords && bytes < maxBytes ? takeNow(waiting) : undefined
      }
      yield* Effect.forEach(byTopic.values(), (requests) => store(requests[0]!.topic, requests), { discard: true })
    })
    // In the layer's scope: forked by a caller, they would run in its transaction.
    yield* Effect.forEach(Array.from({ length: flushers }), () => Effect.forkScoped(Effect.forever(flush)), {
      discard: true
    })

    return (topic, records, bytes) =>
      Effect.suspend(() => {
        const request: Request = { topic, records, bytes, done: Deferred.makeUnsafe(), abandoned: false }
        return Queue.offer(waiting, request).pipe(
          Effect.andThen(Deferred.await(request.done)),
          Effect.onInterrupt(() =>
            Effect.sync(() => {
              request.abandoned = true
            })
          )
        )
      })
  })

const isRetryable = (exit: Exit.Failure<unknown, TransportError>): boolean =>
  exit.cause.reasons.some((reason) => reason._tag === "Fail" && reason.error.isRetryable)

const takeNow = <A>(queue: Queue.Queue<A>): A | undefined => {
  const exit = Queue.takeUnsafe(queue)
  return exit !== undefined && Exit.isSuccess(exit) ? exit.value : undefined
}
