/**
 * The unit of work of an exactly-once handler: what it published, kept back
 * until its transaction settles.
 */
import * as Context from "effect/Context"
import type { EncodedRecord } from "../Envelope.ts"
import type { Outbox, OutgoingRecord } from "../Outbox.ts"
import type { TopicDeclaration, Transport } from "../Transport.ts"

export interface Unit {
  readonly outbox: Outbox["Service"]
  /** Stored with the transaction. */
  readonly outgoing: Array<OutgoingRecord>
  /** At-most-once messages, sent after the commit. */
  readonly afterCommit: Array<{
    readonly transport: Transport["Service"]
    readonly topic: TopicDeclaration
    readonly record: EncodedRecord
  }>
  ended: boolean
}

export const makeUnit = (outbox: Outbox["Service"]): Unit => ({ outbox, outgoing: [], afterCommit: [], ended: false })

/** The unit of work of the handler that the calling fiber belongs to. */
export const CurrentUnit = Context.Reference<Unit | undefined>("@surety/core/internal/CurrentUnit", {
  defaultValue: () => undefined
})
