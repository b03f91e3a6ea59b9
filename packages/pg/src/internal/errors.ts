/** From errors of the driver to errors of a transport. */
import {
  InvalidState,
  OutcomeUnknown,
  TransactionFailed,
  TransportError,
  type TransportErrorReason,
  Unauthorized,
  Unavailable
} from "@surety/core/TransportError"
import * as Cause from "effect/Cause"
import * as Predicate from "effect/Predicate"
import { SqlError } from "effect/sql/SqlError"
import { fencedCode, invalidStateCode, refusedCode, standbyCode } from "./sql/common.ts"

/** The SQLSTATE, where the server gave one. */
export const codeOf = ({ reason }: SqlError): string | undefined =>
  Predicate.hasProperty(reason.cause, "code") && typeof reason.cause.code === "string" ? reason.cause.code : undefined

const serverMessage = (error: SqlError): string =>
  Predicate.isError(error.reason.cause) && error.reason.cause.message !== ""
    ? error.reason.cause.message
    : error.message

/** The server ended the session, is shutting down or starting, or has no room for another one. */
const sessionLost = new Set(["57P01", "57P02", "57P03", "57P05", "53300"])

/** The server ended a transaction that was idle, or open, for too long: that is the doing of whoever left it so. */
const takenTooLong = new Set(["25P03", "25P04"])

const isConnectionLost = (error: SqlError): boolean => {
  const code = codeOf(error) ?? ""
  return !takenTooLong.has(code) && (error.reason._tag === "ConnectionError" || sessionLost.has(code))
}

const reasonOf = (error: SqlError): TransportErrorReason => {
  const { reason } = error
  const code = codeOf(error)
  const detail = serverMessage(error)
  const fields = { detail, cause: error }
  if (isConnectionLost(error)) {
    return reason.operation === "connect" || code === "57P03" || code === "53300"
      ? new Unavailable({ detail: `cannot connect to PostgreSQL (${detail})`, cause: error })
      : new OutcomeUnknown({ detail: `the connection to PostgreSQL was lost (${detail})`, cause: error })
  }
  switch (reason._tag) {
    case "AuthenticationError":
    case "AuthorizationError":
      return new Unauthorized(fields)
    case "DeadlockError":
    case "SerializationError":
    case "LockTimeoutError":
    case "StatementTimeoutError":
      return new Unavailable(fields)
  }
  switch (code) {
    case invalidStateCode:
      return new InvalidState({
        detail: `${detail}; if the log itself is right, run PgTransport.repair(topic)`,
        cause: error
      })
    case refusedCode:
      return new InvalidState(fields)
    // A failover: the server is not the primary yet, or not any more, and refuses to write.
    case standbyCode:
    case "25006":
      return new Unavailable(fields)
    case "42P01":
    case "42883":
    case "3F000":
    case "42703":
      return new InvalidState({
        detail: `${detail}; a migration is missing: build PgSchema.layer, or run PgSchema.migrate`,
        cause: error
      })
    case "25P03":
    case "25P04":
      return new TransactionFailed({ detail: `${detail}; nothing of the transaction was stored`, cause: error })
    case "25P02":
      return new TransactionFailed({
        detail: "the transaction is aborted by an earlier error of its own; nothing of it was stored",
        cause: error
      })
  }
  // 53: no memory, disk full, too many locks. 58: an error of the system below. Whatever is left was refused by the server, and can be looked into.
  if (code?.startsWith("53") === true || code?.startsWith("58") === true) return new Unavailable(fields)
  return new TransactionFailed({ detail, cause: error })
}

export const toTransportError =
  (operation: string, topic: string) =>
  (error: SqlError): TransportError =>
    new TransportError({ operation, topic, reason: reasonOf(error) })

export const isFenced = (error: SqlError): boolean => codeOf(error) === fencedCode

const isAbandoned = ({ reason: { _tag } }: SqlError): boolean =>
  _tag === "DeadlockError" || _tag === "SerializationError"

/** What the client failed with, however a handler wrapped it. */
const sqlErrorsOf = (error: unknown, depth = 6): ReadonlyArray<SqlError> => {
  if (error instanceof SqlError) return [error]
  if (Cause.isCause(error)) {
    return error.reasons.flatMap((reason) =>
      Cause.isFailReason(reason)
        ? sqlErrorsOf(reason.error, depth)
        : Cause.isDieReason(reason)
          ? sqlErrorsOf(reason.defect, depth)
          : []
    )
  }
  return depth > 0 && Predicate.hasProperty(error, "cause") ? sqlErrorsOf(error.cause, depth - 1) : []
}

/** Rule 16: failures that are nobody's attempt. */
export const isInfrastructure = (error: unknown, foreign: WeakSet<SqlError>): boolean =>
  infrastructureErrors(error, foreign).length > 0

export const infrastructureErrors = (error: unknown, foreign: WeakSet<SqlError>): ReadonlyArray<SqlError> =>
  sqlErrorsOf(error).filter((found) => (isConnectionLost(found) || isAbandoned(found)) && !foreign.has(found))

/** A transaction as it is found when its body has failed. */
export interface Found {
  readonly pid: number
  readonly isolation: string
}

/**
 * Whether an error is of another database, given that the transaction's
 * connection is there. One that was not aborted, or no longer is since a
 * savepoint was rolled back, tells what it can have been.
 */
export const isForeign = (error: SqlError, found: Found | "aborted"): boolean => {
  if (!isAbandoned(error)) return true
  if (found === "aborted") return false
  const { cause, _tag } = error.reason
  return _tag === "SerializationError"
    ? found.isolation === "read committed"
    : !(Predicate.hasProperty(cause, "detail") && `${cause.detail}`.includes(`Process ${found.pid} `))
}
