/**
 * Delayed delivery: messages that are stored now, and can be read from a time
 * on.
 *
 * A capability of its own, since not every transport has it: publishing with a
 * `delay` or `deliverAt` requires it in the effect's type, and does not compile
 * over a plain `Transport`. The in-memory and the PostgreSQL layers provide it.
 *
 * What is promised of a delayed message:
 *
 * - It is acknowledged as any other, once it is stored durably; from then on it
 *   survives whatever an undelayed one survives.
 * - It cannot be read before its time. Its offset is drawn when it becomes
 *   readable, at or shortly after its time.
 * - Those of one key that are stored when they fall due are delivered by due
 *   time, then in publish order. Among undelayed ones it takes its place by the
 *   time at which it becomes readable.
 * - In a handler or a transaction it is part of it, as other publishes are.
 * - It keeps its id: consumers of an exactly-once topic take it once.
 *
 * Known limits: `Transport.progress`, and the lag, count it only once it is
 * readable; it cannot be called back; a group that is registered before its time
 * but after it was published reads it.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { EncodedRecord } from "./Envelope.ts"
import * as internal from "./internal/memory/delayed.ts"
import * as MemoryStore from "./MemoryStore.ts"
import type { TopicDeclaration } from "./Transport.ts"
import type { TransportError } from "./TransportError.ts"

/**
 * When a record becomes readable, by the store's clock: so many milliseconds
 * after it is stored, or at a time in milliseconds since the epoch. What lies in
 * the past is due at once.
 *
 * @category models
 * @since 0.1.0
 */
export type Due = { readonly _tag: "After"; readonly millis: number } | { readonly _tag: "At"; readonly millis: number }

/**
 * Stores records that become readable later.
 *
 * @category services
 * @since 0.1.0
 */
export class DelayedDelivery extends Context.Service<
  DelayedDelivery,
  {
    /** Identifies the store, as `Transport.store` does: delayed messages appear in that transport. */
    readonly store: object
    /**
     * Stores records, all or none, and returns once they are as durable as the
     * transport promises. In a transaction of the same store they are part of
     * it, as with `Transport.publish`.
     */
    readonly publish: (
      topic: TopicDeclaration,
      records: ReadonlyArray<EncodedRecord>,
      due: Due
    ) => Effect.Effect<void, TransportError>
  }
>()("@surety/core/DelayedDelivery") {}

/**
 * Delayed delivery of the in-memory transport, by Effect's `Clock`.
 * `Transport.layerMemory` has it already.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMemory: Layer.Layer<DelayedDelivery> = Layer.effect(DelayedDelivery, internal.make).pipe(
  Layer.provide(MemoryStore.layer)
)
