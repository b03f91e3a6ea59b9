/**
 * Why consuming failed.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { TransportError } from "./TransportError.ts"

/**
 * A name or a setting that cannot be used.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidConsumer extends Schema.TaggedError<InvalidConsumer>("@surety/core/ConsumeError/InvalidConsumer")(
  "InvalidConsumer",
  { detail: Schema.String }
) {}

/**
 * The transport failed in a way that repeating cannot mend.
 *
 * @category errors
 * @since 0.1.0
 */
export class TransportFailed extends Schema.TaggedError<TransportFailed>("@surety/core/ConsumeError/TransportFailed")(
  "TransportFailed",
  { cause: TransportError }
) {}

/**
 * A handler failed with an error for which the consumer was told to stop. The
 * message is not settled.
 *
 * @category errors
 * @since 0.1.0
 */
export class Stopped extends Schema.TaggedError<Stopped>("@surety/core/ConsumeError/Stopped")("Stopped", {
  id: Schema.String,
  cause: Schema.Defect()
}) {}

/**
 * Why consuming failed.
 *
 * @category errors
 * @since 0.1.0
 */
export const ConsumeErrorReason = Schema.Union([InvalidConsumer, TransportFailed, Stopped])

/**
 * Why consuming failed.
 *
 * @category errors
 * @since 0.1.0
 */
export type ConsumeErrorReason = typeof ConsumeErrorReason.Type

const advice = (reason: ConsumeErrorReason): string => {
  switch (reason._tag) {
    case "InvalidConsumer":
      return reason.detail
    case "TransportFailed":
      return reason.cause.message
    case "Stopped":
      return `stopped at message ${JSON.stringify(reason.id)}, as its disposition says; it is not settled and comes again`
  }
}

/**
 * A consumer that could not start, or had to stop.
 *
 * @category errors
 * @since 0.1.0
 */
export class ConsumeError extends Schema.TaggedError<ConsumeError>("@surety/core/ConsumeError")("ConsumeError", {
  topic: Schema.String,
  group: Schema.String,
  reason: ConsumeErrorReason
}) {
  override get message(): string {
    return `group "${this.group}" on topic "${this.topic}": ${advice(this.reason)}`
  }
}
