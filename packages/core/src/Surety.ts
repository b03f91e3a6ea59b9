/**
 * The common compositions, in one line each, and what they promise.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Acks from "./Acks.ts"
import type * as DeadLetters from "./DeadLetters.ts"
import type { DelayedDelivery } from "./DelayedDelivery.ts"
import * as Guarantee from "./Guarantee.ts"
import type * as Inbox from "./Inbox.ts"
import * as backend from "./internal/memory/backend.ts"
import * as MemoryStore from "./MemoryStore.ts"
import type * as Outbox from "./Outbox.ts"
import type * as Transport from "./Transport.ts"

export { check, explain } from "./Explain.ts"

/**
 * All guarantees, and what they are made of: what {@link layerMemory} provides,
 * and the layer of any other backend that has all the parts.
 *
 * @category models
 * @since 0.1.0
 */
export type Services =
  | Guarantee.AtMostOnce
  | Guarantee.AtLeastOnce
  | Guarantee.ExactlyOnce
  | Transport.Transport
  | Acks.Acks
  | DelayedDelivery
  | Inbox.Inbox
  | Outbox.Outbox
  | DeadLetters.DeadLetters

/**
 * The three guarantees over any backend that has all the parts.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<
  Guarantee.AtMostOnce | Guarantee.AtLeastOnce | Guarantee.ExactlyOnce,
  Guarantee.CompositionError,
  Transport.Transport | Acks.Acks | Inbox.Inbox | Outbox.Outbox
> = Layer.effectContext(Guarantee.all)

/**
 * All guarantees in this process's memory, for tests and for what may be lost
 * with the process: {@link layer} over `Transport.layerMemory`,
 * `Inbox.layerMemory`, `Outbox.layerMemory` and `DeadLetters.layerMemory`, made
 * in one step.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMemory: Layer.Layer<Services, Guarantee.CompositionError> = Layer.effectContext(
  Effect.flatMap(backend.make, (parts) =>
    Effect.map(Effect.provideContext(Guarantee.all, parts), (guarantees) => Context.merge(parts, guarantees))
  )
).pipe(Layer.provide(MemoryStore.layer))
