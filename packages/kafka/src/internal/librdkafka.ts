/** The native client, loaded where it is there, and its callbacks as effects. */
import type * as Client from "@confluentinc/kafka-javascript"
import { Signal } from "@surety/core/Backend"
import * as Effect from "effect/Effect"
import { KafkaClientError } from "../KafkaClientError.ts"

export type { Client }
export type KafkaError = Client.LibrdKafkaError
export type Library = typeof Client

/** What the declarations of the client leave out. */
export interface Consumer extends Client.KafkaConsumer {
  readonly incrementalAssign: (partitions: ReadonlyArray<Client.Assignment>) => void
  readonly incrementalUnassign: (partitions: ReadonlyArray<Client.TopicPartition>) => void
  readonly assignmentLost: () => boolean
  readonly setDefaultIsTimeoutOnlyForFirstMessage: (only: boolean) => void
}

export const load: Effect.Effect<Library, KafkaClientError> = Effect.tryPromise({
  try: async () => (await import("@confluentinc/kafka-javascript")).default as unknown as Library,
  catch: (cause) =>
    new KafkaClientError({
      reason: "NotInstalled",
      message:
        "the package @confluentinc/kafka-javascript, or its native binary, is missing: add it to your dependencies, and allow its install script",
      cause
    })
})

/** The functions of a client that have been called, and have not called back. */
class Open {
  readonly #signal = new Signal()
  #count = 0
  closed = false

  begin(): void {
    this.#count++
  }

  end(): void {
    if (--this.#count === 0) this.#signal.notify()
  }

  get none(): Effect.Effect<void> {
    return Effect.suspend(() => {
      const seen = this.#signal.version
      return this.#count === 0 ? Effect.void : Effect.andThen(this.#signal.changed(seen), this.none)
    })
  }
}

const open = new WeakMap<object, Open>()

const openOf = (client: object): Open => {
  const known = open.get(client) ?? new Open()
  open.set(client, known)
  return known
}

/**
 * A function of a client, whose callback is its end: it cannot be interrupted,
 * only no longer be waited for.
 */
export const call = <A>(
  client: object,
  begin: (callback: (error: KafkaError | null | undefined, value?: A) => void) => unknown
): Effect.Effect<A, KafkaError> =>
  Effect.callback<A, KafkaError>((resume) => {
    const calls = openOf(client)
    if (calls.closed) return resume(Effect.fail({ code: codes.state, message: "the client is closed" } as KafkaError))
    calls.begin()
    try {
      begin((error, value) => {
        calls.end()
        resume(error === null || error === undefined ? Effect.succeed(value as A) : Effect.fail(error))
      })
    } catch (error) {
      calls.end()
      resume(Effect.fail(error as KafkaError))
    }
  })

/** How long the end of a client waits for what it has been asked to do. */
const patience = "30 seconds"

/**
 * Ends a client. Rule 13: once, and not in the middle of anything, which would
 * end the process; one that does not come to its end is left behind instead.
 */
export const end = (client: object, disconnect: (callback: () => void) => void): Effect.Effect<void> =>
  Effect.suspend(() => {
    const calls = openOf(client)
    calls.closed = true
    return Effect.timeoutOption(calls.none, patience)
  }).pipe(
    Effect.flatMap((ended) =>
      ended._tag === "Some" ? Effect.callback<void>((resume) => disconnect(() => resume(Effect.void))) : Effect.void
    )
  )

/** Codes of errors. Those below zero are the client's own, the others the protocol's. */
export const codes = {
  unknownTopic: 3,
  messageTooLarge: 10,
  metadataTooLarge: 12,
  illegalGeneration: 22,
  unknownMember: 25,
  topicAlreadyExists: 36,
  fencedInstance: 82,
  fenced: -144,
  queueFull: -184,
  autoOffsetReset: -140,
  state: -172
} as const
