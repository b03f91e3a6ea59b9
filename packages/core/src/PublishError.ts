/**
 * Why publishing failed, and what is known of the outcome.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { TransportError } from "./TransportError.ts"

/**
 * Known: the message was not sent.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotSent extends Schema.TaggedError<NotSent>("@surety/core/PublishError/NotSent")("NotSent", {
  cause: TransportError
}) {}

/**
 * Not known: the message may or may not have been sent. Publish again with the
 * same ids: consumers of an exactly-once topic take it once.
 *
 * @category errors
 * @since 0.1.0
 */
export class MaybeSent extends Schema.TaggedError<MaybeSent>("@surety/core/PublishError/MaybeSent")("MaybeSent", {
  cause: TransportError
}) {}

/**
 * A payload that its topic's schema, or the codec, refuses to encode. Nothing
 * was sent.
 *
 * @category errors
 * @since 0.1.0
 */
export class EncodeFailed extends Schema.TaggedError<EncodeFailed>("@surety/core/PublishError/EncodeFailed")(
  "EncodeFailed",
  { cause: Schema.Defect() }
) {}

/**
 * A topic name, id, key or header that cannot be stored. Nothing was sent.
 *
 * @category errors
 * @since 0.1.0
 */
export class Invalid extends Schema.TaggedError<Invalid>("@surety/core/PublishError/Invalid")("Invalid", {
  detail: Schema.String
}) {}

/**
 * The handler whose transaction the message was to join has ended already: a
 * fiber that it left behind published. Nothing was sent.
 *
 * @category errors
 * @since 0.1.0
 */
export class UnitEnded extends Schema.TaggedError<UnitEnded>("@surety/core/PublishError/UnitEnded")("UnitEnded", {}) {}

/**
 * The outbox of the surrounding transaction cannot carry messages to this
 * topic's transport. Nothing was sent.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotCarried extends Schema.TaggedError<NotCarried>("@surety/core/PublishError/NotCarried")("NotCarried", {
  transport: Schema.String
}) {}

/**
 * Why publishing failed.
 *
 * @category errors
 * @since 0.1.0
 */
export const PublishErrorReason = Schema.Union([NotSent, MaybeSent, EncodeFailed, Invalid, UnitEnded, NotCarried])

/**
 * Why publishing failed.
 *
 * @category errors
 * @since 0.1.0
 */
export type PublishErrorReason = typeof PublishErrorReason.Type

const advice = (reason: PublishErrorReason): string => {
  switch (reason._tag) {
    case "NotSent":
      return `not sent: ${reason.cause.message}`
    case "MaybeSent":
      return `may or may not have been sent: ${reason.cause.message}; publish again with the same id`
    case "EncodeFailed":
      return "not sent: the payload does not encode with the topic's schema; see the cause"
    case "Invalid":
      return `not sent: ${reason.detail}`
    case "UnitEnded":
      return "not sent: the handler's transaction has ended; join the fibers that publish before the handler returns"
    case "NotCarried":
      return `not sent: the transaction's outbox carries no messages to the ${reason.transport} transport`
  }
}

/**
 * A publish that failed, with what is known of its outcome.
 *
 * @category errors
 * @since 0.1.0
 */
export class PublishError extends Schema.TaggedError<PublishError>("@surety/core/PublishError")("PublishError", {
  topic: Schema.String,
  ids: Schema.Array(Schema.String),
  reason: PublishErrorReason
}) {
  override get message(): string {
    return `publish to topic "${this.topic}": ${advice(this.reason)}`
  }

  /** Whether publishing again, with the same ids, may succeed. */
  get isRetryable(): boolean {
    return this.reason._tag === "MaybeSent" || (this.reason._tag === "NotSent" && this.reason.cause.isRetryable)
  }
}
