/**
 * The outbox: messages that leave if and only if a transaction commits.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Part } from "./Description.ts"
import type { EncodedRecord } from "./Envelope.ts"
import * as internal from "./internal/memory/outbox.ts"
import * as MemoryStore from "./MemoryStore.ts"
import type { TopicDeclaration, Transport } from "./Transport.ts"
import type { TransportError } from "./TransportError.ts"

/**
 * A record that a handler published, waiting for its transaction to settle.
 *
 * @category models
 * @since 0.1.0
 */
export interface OutgoingRecord {
  /** Whose `publish` stores it. Another object for one that is to be delayed; records of one object belong together. */
  readonly transport: Transport["Service"]
  readonly topic: TopicDeclaration
  readonly record: EncodedRecord
  /** What `Outbox.savepoint` returned when it was published. */
  readonly savepoint: number | undefined
}

/**
 * Carries the messages of a transaction.
 *
 * @category services
 * @since 0.1.0
 */
export class Outbox extends Context.Service<
  Outbox,
  {
    /** Identifies the store, as `Transport.store` does. */
    readonly store: object
    readonly description: Part
    /** Whether records for this transport can be carried. */
    readonly carries: (transport: Transport["Service"]) => boolean
    /**
     * Remembers that a record was published inside a savepoint that the handler
     * opened, so that `write` leaves the record out when the savepoint was
     * rolled back. `undefined` outside any savepoint.
     */
    readonly savepoint: Effect.Effect<number | undefined, TransportError>
    /** Stores the records in the current transaction, in their order. */
    readonly write: (records: ReadonlyArray<OutgoingRecord>) => Effect.Effect<void, TransportError>
  }
>()("@surety/core/Outbox") {}

/**
 * An outbox in this process's memory, for the in-memory transport.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMemory: Layer.Layer<Outbox> = Layer.effect(Outbox, internal.make).pipe(
  Layer.provide(MemoryStore.layer)
)
