/**
 * Plays GitHub: sends deliveries, some of them twice, and repeats what was not
 * accepted, each time under the same delivery id.
 */
import { Duration, Effect, type Redacted, Schedule, Schema, Stream, SubscriptionRef } from "effect"
import { HttpClient, HttpClientRequest } from "effect/http"
import type { Delivery, Step } from "./deliveries.ts"
import { Stalled } from "./settled.ts"
import { sign } from "./signature.ts"
import { stepDone, type Tally } from "./tally.ts"

/** An answer that is not 202. */
export class NotAccepted extends Schema.TaggedError<NotAccepted>()("NotAccepted", {
  status: Schema.Int
}) {}

export interface Options {
  readonly url: string
  readonly secret: Redacted.Redacted
  readonly tally: Tally
  /** How many requests are under way at once. Default 32. */
  readonly concurrency?: number | undefined
  /** How long to go on while nothing at all is accepted. */
  readonly patience: Duration.Duration
}

const request = ({ secret, url }: Options, { body, event, id }: Delivery) => {
  const bytes = body()
  return HttpClientRequest.post(url).pipe(
    HttpClientRequest.setHeaders({
      "x-github-delivery": id,
      "x-github-event": event,
      "x-hub-signature-256": sign(secret, bytes)
    }),
    HttpClientRequest.bodyUint8Array(bytes, "application/json")
  )
}

/** One request. */
const post = Effect.fnUntraced(function* (options: Options, delivery: Delivery) {
  const { tally } = options
  tally.sent++
  const response = yield* HttpClient.execute(request(options, delivery))
  yield* response.text
  if (response.status !== 202) return yield* new NotAccepted({ status: response.status })
  tally.accepted.set(delivery.id, (tally.accepted.get(delivery.id) ?? 0) + 1)
}, Effect.timeout("10 seconds"))

/** Repeats on 5xx, timeouts and lost connections; a 4xx is final, and the audit finds what was never accepted. */
const deliver = (options: Options, delivery: Delivery) =>
  post(options, delivery).pipe(
    Effect.retry({
      schedule: Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("2 seconds")]).pipe(
        Schedule.jittered
      ),
      while: (error) => error._tag !== "NotAccepted" || error.status >= 500
    }),
    Effect.ignore
  )

/** Fails once no delivery has come to an end for too long. */
const stalled = ({ patience, tally }: Options) =>
  SubscriptionRef.changes(tally.steps).pipe(
    Stream.timeoutOrElse({
      duration: patience,
      orElse: () =>
        Stream.fail(new Stalled({ detail: `the receiver has accepted nothing for ${Duration.format(patience)}` }))
    }),
    Stream.runDrain,
    Effect.andThen(Effect.never)
  )

/** Sends all of them. */
export const send = Effect.fn("Webhooks.send")(function* (plan: ReadonlyArray<Step>, options: Options) {
  const sending = Effect.forEach(
    plan,
    ({ copies, delivery }) =>
      Effect.all(
        Array.from({ length: copies }, () => deliver(options, delivery)),
        { concurrency: "unbounded", discard: true }
      ).pipe(Effect.andThen(stepDone(options.tally))),
    { concurrency: options.concurrency ?? 32, discard: true }
  )
  yield* Effect.raceFirst(sending, stalled(options))
})
