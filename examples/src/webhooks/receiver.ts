/**
 * The HTTP edge, as GitHub calls it: checks the signature, publishes the body,
 * and answers 202 once the publish is acknowledged. What is not acknowledged is
 * answered 503, so that it comes again, under the same delivery id.
 */
import { Codec, Producer, type PublishError } from "@surety/core"
import { ByteSize, Clock, Effect, Option, type Redacted, Schema } from "effect"
import { HttpIncomingMessage, HttpRouter, type HttpServerRequest, HttpServerResponse } from "effect/http"
import { verify } from "./signature.ts"
import { arrivedHeader, Bodies, bodyCodec, Delivery, eventHeader, subjectOf } from "./topics.ts"

/** GitHub waits for 10 seconds. */
const patience = "8 seconds"

/** GitHub sends no more. */
const maxBodySize = ByteSize.megabytes(25)

const answer = (status: number, text: string) => HttpServerResponse.text(`${text}\n`, { status })

const parse = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Unknown))

/** The text of a body, and the JSON in it. */
const read = (body: Uint8Array): Option.Option<{ readonly text: string; readonly json: unknown }> =>
  Option.liftThrowable(() => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body))().pipe(
    Option.flatMap((text) => Option.map(parse(text), (json) => ({ text, json })))
  )

/** Messages about one subject stay in order. What the schema refuses has no subject, and is stored all the same. */
const keyOf = (json: unknown): string | undefined =>
  Option.getOrUndefined(Option.map(Schema.decodeUnknownOption(Delivery)(json), subjectOf))

const receive = (secret: Redacted.Redacted) =>
  Effect.fn("Webhooks.receive")(
    function* (request: HttpServerRequest.HttpServerRequest) {
      const arrived = yield* Clock.currentTimeMillis
      const body = new Uint8Array(yield* request.arrayBuffer)
      if (!verify(secret, body, request.headers["x-hub-signature-256"])) return answer(401, "the signature is not ours")
      const id = request.headers["x-github-delivery"]
      const event = request.headers[eventHeader]
      if (!id || !event) return answer(400, "X-GitHub-Delivery and X-GitHub-Event are missing, or one of them")
      const content = read(body)
      if (Option.isNone(content)) return answer(400, "the body is not JSON")
      return yield* Producer.publish(Bodies, content.value.text, {
        id,
        key: keyOf(content.value.json),
        headers: { [eventHeader]: event, [arrivedHeader]: String(arrived) }
      }).pipe(
        Effect.provide(Codec.layer(bodyCodec)),
        Effect.as(answer(202, "accepted")),
        Effect.catchTag("PublishError", notAccepted),
        Effect.timeoutOrElse({
          duration: patience,
          orElse: () => Effect.succeed(answer(503, "not acknowledged in time; send it again"))
        })
      )
    },
    Effect.provideService(HttpIncomingMessage.MaxBodySize, maxBodySize)
  )

/** The message may be stored all the same: the delivery id makes a second one harmless. */
const notAccepted = Effect.fnUntraced(function* (error: PublishError) {
  if (error.isRetryable) {
    yield* Effect.logWarning(`not accepted: ${error.message}`)
    return answer(503, "not acknowledged; send it again")
  }
  const tooLarge = error.reason._tag === "NotSent" && error.reason.cause.reason._tag === "RecordTooLarge"
  return answer(tooLarge ? 413 : 400, error.message)
})

/** `POST /webhooks`. */
export const layer = (secret: Redacted.Redacted) => HttpRouter.add("POST", "/webhooks", receive(secret))
