/** The native client, loaded where it is there, and its callbacks as effects. */
import type * as Client from "@confluentinc/kafka-javascript"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
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

/** How many functions of a client have been called, and have not called back. */
interface Calls {
  open: number
  closed: boolean
}

const calls = new WeakMap<object, Calls>()

const callsOf = (client: object): Calls => {
  const known = calls.get(client) ?? { open: 0, closed: false }
  calls.set(client, known)
  return known
}

/** A client that works through another one, and ends with it. */
export const share = (client: object, through: object): void => void calls.set(client, callsOf(through))

/** A client is asked for something, and is not ended before it has answered. Returns what tells that it has. */
export const ask = (...clients: ReadonlyArray<object>): (() => void) => {
  const asked = clients.map(callsOf)
  for (const each of asked) each.open++
  return () => {
    for (const each of asked) each.open--
  }
}

/**
 * A function of a client, whose callback is its end: it cannot be interrupted,
 * only no longer be waited for. `others` are clients that it uses as well.
 */
export const call = <A>(
  client: object,
  begin: (callback: (error: KafkaError | null | undefined, value?: A) => void) => unknown,
  ...others: ReadonlyArray<object>
): Effect.Effect<A, KafkaError> =>
  Effect.callback<A, KafkaError>((resume) => {
    if ([client, ...others].some((each) => callsOf(each).closed)) {
      return resume(Effect.fail({ code: codes.state, message: "the client is closed" } as KafkaError))
    }
    const answered = ask(client, ...others)
    try {
      begin((error, value) => {
        answered()
        resume(error === null || error === undefined ? Effect.succeed(value as A) : Effect.fail(error))
      })
    } catch (error) {
      answered()
      resume(Effect.fail(error as KafkaError))
    }
  })

/** How long is waited for the end of a client. */
const patience = "3 seconds"

/**
 * Ends a client. Rule 13: once, and not in the middle of anything, which would
 * end the process. One that does not answer, since it is cut off from its
 * brokers, is ended in the background, once it does: librdkafka repeats a commit
 * until they are back, and its own close would hold a thread for so long.
 * `serve` lets a client call back that does so only when it is asked to.
 */
export const end = (
  client: object,
  disconnect: (callback: () => void) => void,
  serve: Effect.Effect<void> = Effect.void
): Effect.Effect<void> =>
  Effect.suspend(() => {
    const asked = callsOf(client)
    asked.closed = true
    const answered: Effect.Effect<void> = Effect.suspend(() =>
      asked.open === 0 ? Effect.void : serve.pipe(Effect.andThen(Effect.sleep("50 millis")), Effect.andThen(answered))
    )
    const disconnected = Effect.callback<void>((resume) => disconnect(() => resume(Effect.void)))
    return Effect.forkDetach(Effect.andThen(answered, disconnected))
  }).pipe(
    Effect.flatMap((ending) => Effect.timeoutOption(Fiber.await(ending), patience)),
    Effect.asVoid
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
