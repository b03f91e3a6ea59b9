/** What the client's errors are to those who use a transport. */
import {
  InvalidState,
  OutcomeUnknown,
  TransportError,
  type TransportErrorReason,
  Unauthorized,
  Unavailable
} from "@surety/core/TransportError"
import type { KafkaClientError } from "../KafkaClientError.ts"
import type { KafkaError } from "./librdkafka.ts"

const unauthorized = new Set([-169, 29, 30, 31, 33, 53, 58])
const unknownTopic = new Set([3, -188, -190])
const invalid = new Set([17, 12, 24, 35, -186])
/** The request may have been carried out. */
const unanswered = new Set([-192, -151, 7, 13, 20, -195, -185])

const detailOf = ({ code, message }: KafkaError) => `${message} (${code})`

export const reasonOf = (cause: KafkaError): TransportErrorReason => {
  const detail = detailOf(cause)
  if (unauthorized.has(cause.code)) return new Unauthorized({ detail, cause })
  if (unknownTopic.has(cause.code)) {
    return new InvalidState({ detail: `${detail}: the topic does not exist; create it, or allow createTopics`, cause })
  }
  if (invalid.has(cause.code)) return new InvalidState({ detail, cause })
  return new Unavailable({ detail, cause })
}

/** The same, of an operation that stores something: what was not answered may have happened. */
export const outcomeOf = (cause: KafkaError): TransportErrorReason =>
  unanswered.has(cause.code) ? new OutcomeUnknown({ detail: detailOf(cause), cause }) : reasonOf(cause)

export const failure =
  (operation: string, topic: string, reason: (error: KafkaError) => TransportErrorReason = reasonOf) =>
  (error: KafkaError): TransportError =>
    new TransportError({ operation, topic, reason: reason(error) })

/** Of a client that could not be made. */
export const connectFailed =
  (operation: string, topic: string) =>
  (cause: KafkaClientError): TransportError => {
    const reason = { detail: cause.message, cause }
    return new TransportError({
      operation,
      topic,
      reason:
        cause.reason === "Unreachable"
          ? new Unavailable(reason)
          : cause.reason === "Refused"
            ? new Unauthorized(reason)
            : new InvalidState(reason)
    })
  }
