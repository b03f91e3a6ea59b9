/**
 * Dead letters: messages that could not be handled, kept whole.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
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
 * Which dead letters to list; all fields narrow.
 *
 * @category models
 * @since 0.1.0
 */
export interface Filter {
  readonly topic?: string | undefined
  readonly group?: string | undefined
}

/**
 * Reads dead letters.
 *
 * @category services
 * @since 0.1.0
 */
export class DeadLetters extends Context.Service<
  DeadLetters,
  {
    /** Oldest first by topic, group, partition and offset; read in pages of bounded size. */
    readonly list: (filter?: Filter) => Stream.Stream<DeadLetter, TransportError>
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
