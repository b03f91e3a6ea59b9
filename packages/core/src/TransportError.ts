/**
 * Why an operation of a transport, inbox, outbox or dead-letter store failed.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/**
 * The transport could not be reached, or refused for the moment. Nothing was
 * stored; trying again may succeed.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unavailable extends Schema.TaggedError<Unavailable>("@surety/core/Transport/Unavailable")("Unavailable", {
  detail: Schema.String,
  cause: Schema.optional(Schema.Defect())
}) {
  readonly isRetryable: boolean = true
}

/**
 * The reply was lost or late: the operation may or may not have happened.
 *
 * @category errors
 * @since 0.1.0
 */
export class OutcomeUnknown extends Schema.TaggedError<OutcomeUnknown>("@surety/core/Transport/OutcomeUnknown")(
  "OutcomeUnknown",
  { detail: Schema.String, cause: Schema.optional(Schema.Defect()) }
) {
  readonly isRetryable: boolean = true
}

/**
 * The caller's lease is over: a later epoch holds the partition. What it tried
 * to settle was refused.
 *
 * @category errors
 * @since 0.1.0
 */
export class Fenced extends Schema.TaggedError<Fenced>("@surety/core/Transport/Fenced")("Fenced", {
  group: Schema.String,
  partition: Schema.Number,
  epoch: Schema.Number
}) {
  readonly isRetryable: boolean = false
}

/**
 * The record is larger than the transport's limit.
 *
 * @category errors
 * @since 0.1.0
 */
export class RecordTooLarge extends Schema.TaggedError<RecordTooLarge>("@surety/core/Transport/RecordTooLarge")(
  "RecordTooLarge",
  { id: Schema.String, bytes: Schema.Number, limit: Schema.Number }
) {
  readonly isRetryable: boolean = false
}

/**
 * The topic exists with another number of partitions than the one declared.
 *
 * @category errors
 * @since 0.1.0
 */
export class TopicMismatch extends Schema.TaggedError<TopicMismatch>("@surety/core/Transport/TopicMismatch")(
  "TopicMismatch",
  { declared: Schema.Number, stored: Schema.Number }
) {
  readonly isRetryable: boolean = false
}

/**
 * The credentials were refused, or lack a privilege.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unauthorized extends Schema.TaggedError<Unauthorized>("@surety/core/Transport/Unauthorized")(
  "Unauthorized",
  { detail: Schema.String, cause: Schema.optional(Schema.Defect()) }
) {
  readonly isRetryable: boolean = false
}

/**
 * The stored state contradicts itself, or is not what this version expects:
 * a missing migration, or a sequence behind its own log. `detail` says how to
 * repair it.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidState extends Schema.TaggedError<InvalidState>("@surety/core/Transport/InvalidState")(
  "InvalidState",
  { detail: Schema.String, cause: Schema.optional(Schema.Defect()) }
) {
  readonly isRetryable: boolean = false
}

/**
 * The surrounding transaction is aborted, or failed: nothing of it was stored.
 *
 * @category errors
 * @since 0.1.0
 */
export class TransactionFailed extends Schema.TaggedError<TransactionFailed>(
  "@surety/core/Transport/TransactionFailed"
)("TransactionFailed", { detail: Schema.String, cause: Schema.optional(Schema.Defect()) }) {
  readonly isRetryable: boolean = false
}

/**
 * The log no longer holds what a group is to read next: retention has dropped
 * it, or the topic was emptied, or made anew.
 *
 * @category errors
 * @since 0.1.0
 */
export class RecordsGone extends Schema.TaggedError<RecordsGone>("@surety/core/Transport/RecordsGone")("RecordsGone", {
  group: Schema.String,
  partition: Schema.Number,
  /** The last offset that the group has settled. */
  settled: Schema.Number,
  /** What is known of the log, as a clause: "it begins at offset 120". */
  detail: Schema.String
}) {
  readonly isRetryable: boolean = false
}

/**
 * Why a transport operation failed.
 *
 * @category errors
 * @since 0.1.0
 */
export const TransportErrorReason = Schema.Union([
  Unavailable,
  OutcomeUnknown,
  Fenced,
  RecordTooLarge,
  TopicMismatch,
  Unauthorized,
  InvalidState,
  TransactionFailed,
  RecordsGone
])

/**
 * Why a transport operation failed.
 *
 * @category errors
 * @since 0.1.0
 */
export type TransportErrorReason = typeof TransportErrorReason.Type

const advice = (reason: TransportErrorReason): string => {
  switch (reason._tag) {
    case "Unavailable":
      return `${reason.detail}; nothing was stored, try again`
    case "OutcomeUnknown":
      return `${reason.detail}; it may or may not have been stored, repeat it with the same id`
    case "Fenced":
      return `epoch ${reason.epoch} of group "${reason.group}" no longer holds partition ${reason.partition}; its work was refused`
    case "RecordTooLarge":
      return `record ${JSON.stringify(reason.id)} has ${reason.bytes} bytes, over the limit of ${reason.limit}; store the payload elsewhere and publish a reference, or raise maxRecordBytes`
    case "TopicMismatch":
      return `declared with ${reason.declared} partitions but stored with ${reason.stored}; the number of partitions of a topic cannot change, make a new topic`
    case "Unauthorized":
      return `${reason.detail}; check the credentials and the privileges of the role`
    case "RecordsGone":
      return `group "${reason.group}" is to go on after offset ${reason.settled} of partition ${reason.partition}, and what follows is gone from the log: ${reason.detail}; restore the log, or accept the loss by moving the group on`
    case "InvalidState":
    case "TransactionFailed":
      return reason.detail
  }
}

/**
 * A failed transport, inbox, outbox or dead-letter operation.
 *
 * @category errors
 * @since 0.1.0
 */
export class TransportError extends Schema.TaggedError<TransportError>("@surety/core/TransportError")(
  "TransportError",
  {
    operation: Schema.String,
    topic: Schema.String,
    reason: TransportErrorReason
  }
) {
  override get message(): string {
    return `${this.operation} on topic "${this.topic}": ${advice(this.reason)}`
  }

  /** Whether repeating the operation may succeed. */
  get isRetryable(): boolean {
    return this.reason.isRetryable
  }
}
