/**
 * Dead letters: messages that could not be handled, kept whole.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import type * as Stream from "effect/Stream"
import type { StoredRecord } from "./Envelope.ts"
import * as internal from "./internal/memory/deadLetters.ts"
import * as MemoryStore from "./MemoryStore.ts"
import type { TransportError } from "./TransportError.ts"

/**
 * Why a message was dead-lettered.
 *
 * @category models
 * @since 0.1.0
 */
export interface Failure {
  /** The error's `_tag`, or its name. */
  readonly tag: string
  readonly message: string
  /** The whole cause, rendered. It may quote the payload. */
  readonly cause: string
}

/**
 * A message that ended in the dead letters of one group, with its original
 * bytes, headers and key.
 *
 * @category models
 * @since 0.1.0
 */
export interface DeadLetter {
  readonly topic: string
  readonly group: string
  readonly record: StoredRecord
  readonly failure: Failure
  /** How many attempts were made; 0 when the handler never saw it. */
  readonly attempts: number
  /** When it was dead-lettered, in milliseconds since the epoch. */
  readonly time: number
}

/**
 * Where a dead letter is: no two are in one place.
 *
 * @category models
 * @since 0.1.0
 */
export interface Place {
  readonly topic: string
  readonly group: string
  readonly partition: number
  readonly offset: number
}

/**
 * Which dead letters are meant; all fields narrow.
 *
 * @category models
 * @since 0.1.0
 */
export interface Filter {
  readonly topic?: string | undefined
  readonly group?: string | undefined
  /** The id of the message. */
  readonly id?: string | undefined
  /** The tag of the failure. */
  readonly tag?: string | undefined
  /** Dead-lettered before this time, in milliseconds since the epoch. */
  readonly before?: number | undefined
}

/**
 * Reads dead letters, gives them another chance, and removes them.
 *
 * @category services
 * @since 0.1.0
 */
export class DeadLetters extends Context.Service<
  DeadLetters,
  {
    /** Oldest first by topic, group, partition and offset; read in pages of bounded size. */
    readonly list: (filter?: Filter) => Stream.Stream<DeadLetter, TransportError>
    readonly get: (place: Place) => Effect.Effect<Option.Option<DeadLetter>, TransportError>
    /**
     * Hands messages to the group that failed on them, once more, with the same
     * ids and their attempts counted from zero, and returns how many. They are
     * no dead letters any more. In batches: interrupted and repeated, it goes on
     * where it was.
     *
     * A redriven message is exempt from order: later ones of its key have been
     * handled.
     */
    readonly redrive: (filter?: Filter) => Effect.Effect<number, TransportError>
    /**
     * Removes dead letters for good, in batches, and returns how many. An
     * exactly-once group goes on refusing their ids as settled.
     */
    readonly purge: (filter?: Filter) => Effect.Effect<number, TransportError>
  }
>()("@surety/core/DeadLetters") {}

/**
 * The dead letters of the in-memory transport.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMemory: Layer.Layer<DeadLetters> = Layer.effect(DeadLetters, internal.make).pipe(
  Layer.provide(MemoryStore.layer)
)
