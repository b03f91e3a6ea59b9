/**
 * The common compositions, in one line each, and what they promise.
 *
 * @since 0.1.0
 */
import * as Layer from "effect/Layer"
import type * as Acks from "./Acks.ts"
import * as DeadLetters from "./DeadLetters.ts"
import type { DelayedDelivery } from "./DelayedDelivery.ts"
import { AtLeastOnce, AtMostOnce, type CompositionError, ExactlyOnce } from "./Guarantee.ts"
import * as Inbox from "./Inbox.ts"
import * as Outbox from "./Outbox.ts"
import * as Transport from "./Transport.ts"

export { check, explain } from "./Explain.ts"

/**
 * All guarantees, and what they are made of: what {@link layerMemory} provides,
 * and the layer of any other backend that has all the parts.
 *
 * @category models
 * @since 0.1.0
 */
export type Services =
  | AtMostOnce
  | AtLeastOnce
  | ExactlyOnce
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
  AtMostOnce | AtLeastOnce | ExactlyOnce,
  CompositionError,
  Transport.Transport | Acks.Acks | Inbox.Inbox | Outbox.Outbox
> = Layer.mergeAll(AtMostOnce.layer, ExactlyOnce.layer).pipe(Layer.provideMerge(AtLeastOnce.layer))

/**
 * All guarantees in this process's memory, for tests and for what may be lost
 * with the process.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMemory: Layer.Layer<Services, CompositionError> = layer.pipe(
  Layer.provideMerge(
    Layer.mergeAll(Transport.layerMemory, Inbox.layerMemory, Outbox.layerMemory, DeadLetters.layerMemory)
  )
)
