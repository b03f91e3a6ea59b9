/** What is done with a delivery, and under which guarantee. */
import { Consumer, type Envelope, Producer, Transaction } from "@surety/core"
import { Clock, Effect, Schedule } from "effect"
import { SqlClient } from "effect/sql"
import {
  arrivedHeader,
  Deliveries,
  DeliveriesAtLeastOnce,
  type Delivery,
  eventHeader,
  Summaries,
  subjectOf
} from "./topics.ts"

export const group = "activity"

/** Plain SQL, and a message: all of it in one transaction, whoever opened that. */
const apply = Effect.fn("Webhooks.apply")(function* (delivery: Delivery, envelope: Envelope.Envelope<Delivery>) {
  const sql = yield* SqlClient.SqlClient
  const event = envelope.headers[eventHeader] ?? "unknown"
  const subject = subjectOf(delivery)
  yield* sql`INSERT INTO activity ${sql.insert({
    delivery_id: envelope.id,
    subject,
    event,
    action: delivery.action ?? null,
    sender: delivery.sender?.login ?? null
  })}`
  yield* sql`INSERT INTO counter AS c ${sql.insert({ subject, event, deliveries: 1 })}
    ON CONFLICT (subject, event) DO UPDATE SET deliveries = c.deliveries + 1`
  yield* Producer.publish(Summaries, { delivery: envelope.id, event, subject })
})

/** Called with the milliseconds from the arrival of a request to the commit of its effects. */
export type OnCommit = (millis: number) => Effect.Effect<void>

const sinceArrival = (envelope: Envelope.Envelope<unknown>) =>
  Effect.map(Clock.currentTimeMillis, (now) => now - Number(envelope.headers[arrivedHeader]))

/** Workers are killed on purpose here, which is no message's fault: none is dead-lettered for it. */
const maxCrashes = 1000

const retry = Schedule.exponential("50 millis").pipe(Schedule.jittered, Schedule.upTo({ times: 5 }))

/** Exactly-once: the inbox, the effects and the progress commit together. */
export const withInbox = (onCommit: OnCommit) =>
  Consumer.make(Deliveries, {
    group,
    concurrency: 4,
    maxCrashes,
    handler: Effect.fnUntraced(function* (delivery, envelope) {
      yield* apply(delivery, envelope)
      const transaction = yield* Transaction
      yield* transaction.afterCommit(Effect.flatMap(sinceArrival(envelope), onCommit))
    })
  }).pipe(Consumer.retry(retry), Consumer.orDeadLetter)

/** What one would write by hand: the same effects in a transaction of their own, acknowledged after it. */
export const withoutInbox = (onCommit: OnCommit) =>
  Consumer.make(DeliveriesAtLeastOnce, {
    group,
    concurrency: 4,
    maxCrashes,
    handler: Effect.fnUntraced(function* (delivery, envelope) {
      const sql = yield* SqlClient.SqlClient
      yield* sql.withTransaction(apply(delivery, envelope))
      yield* Effect.flatMap(sinceArrival(envelope), onCommit)
    })
  }).pipe(Consumer.retry(retry), Consumer.orDeadLetter)
