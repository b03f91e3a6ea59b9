/** What the tests of the suite are made of: messages, nodes, runs, and how they fail. */
import type * as Consumer from "@surety/core/Consumer"
import { contentTypeHeader, type Envelope, type Headers } from "@surety/core/Envelope"
import type * as Guarantee from "@surety/core/Guarantee"
import type * as Topic from "@surety/core/Topic"
import type { Assignment, ClaimedRecord } from "@surety/core/Transport"
import type { TransportError } from "@surety/core/TransportError"
import type * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as History from "../../History.ts"
import type * as TransportTest from "../../TransportTest.ts"

export const Message = Schema.Struct({ id: Schema.String, key: Schema.NullOr(Schema.String), body: Schema.String })
export type Message = typeof Message.Type
/** What every backend may have. */
export type Guaranteed = Exclude<Guarantee.Name, "exactly-once-kafka">
export type TestTopic = Topic.Topic<typeof Message, Guaranteed>

export const message = (id: string, key: string | null = null, body = ""): Message => ({ id, key, body })

/** Messages `prefix-1` to `prefix-count`, over as many keys. */
export const messages = (count: number, keys: number, prefix = "m"): ReadonlyArray<Message> =>
  Array.from({ length: count }, (_, index) => message(`${prefix}-${index + 1}`, `key-${index % keys}`, `body ${index}`))

/** What must be the same at every hop. */
export const contentOf = ({ body, id, key }: Message, headers: Headers): string =>
  JSON.stringify([
    id,
    key,
    body,
    Object.entries(headers)
      .filter(([name]) => name !== contentTypeHeader)
      .sort(([a], [b]) => (a < b ? -1 : 1))
  ])

export const decodeMessage = Schema.decodeUnknownOption(Schema.fromJsonString(Message))

/** Claims so many records: a transport may hand them over in parts. */
export const claimAll = Effect.fnUntraced(function* (
  { claim }: Pick<Assignment, "claim">,
  count: number
): Effect.fn.Return<ReadonlyArray<ClaimedRecord>, TransportError> {
  const claimed: Array<ClaimedRecord> = []
  while (claimed.length < count) claimed.push(...(yield* claim(count)))
  return claimed
})

/** How the handlers of the tests fail. */
export class Failed extends Data.TaggedError("Failed")<{ readonly detail: string }> {}

/** The history of a test contradicts its invariants. */
export class Violated extends Error {
  readonly _tag = "Violated"
  readonly violations: ReadonlyArray<History.Violation>
  constructor(violations: ReadonlyArray<History.Violation>, history: History.History) {
    super(`${History.format(violations)}\n\nthe history:\n${History.timeline(history)}`)
    this.violations = violations
  }
}

/** What a test waited for did not come about. The violations are those of the history so far. */
export class NeverHappened extends Error {
  readonly _tag = "NeverHappened"
  readonly violations: ReadonlyArray<History.Violation>
  constructor(what: string, history: History.History) {
    const violations = History.check(history)
    super(
      `never happened: ${what}\n\nby then: ${History.format(violations)}\n\nthe history:\n${History.timeline(history.slice(-200))}`
    )
    this.violations = violations
  }
}

/** A run of a handler, as the test's own part of it sees it. */
export interface Running extends History.Run {
  readonly message: Message
  readonly envelope: Envelope<Message>
  readonly on: TestNode
  /** Publishes in the run: part of its transaction, where it has one. */
  readonly emit: (topic: TestTopic, message: Message) => Effect.Effect<void, Failed>
}

export interface ConsumeOptions
  extends Partial<
    Pick<
      Consumer.Options<unknown>,
      | "group"
      | "concurrency"
      | "batchSize"
      | "prefetch"
      | "startFrom"
      | "handlerTimeout"
      | "drainTimeout"
      | "defectRetry"
      | "maxCrashes"
      | "redeliverAfter"
    >
  > {
  /** The handler takes batches, and handles their messages one after the other; `taken` is told of each batch. */
  readonly batch?:
    | {
        readonly maxSize: number
        readonly maxWait?: Duration.Input | undefined
        readonly taken?: ((ids: ReadonlyArray<string>) => void) | undefined
      }
    | undefined
  /** The test's own part of the handler: between two effects, where the topic is exactly-once. */
  readonly handle?: ((run: Running) => Effect.Effect<unknown, Failed>) | undefined
  /** What becomes of failures; the dead letters where nothing is said. */
  readonly rules?:
    | ((consumer: Consumer.Consumer<Message, Failed, any>) => Consumer.Consumer<Message, Failed, any>)
    | undefined
  /** An interruption is a failure: the handler's own, or for its length. */
  readonly interruptFails?: boolean | undefined
}

/** A process on the store. */
export interface TestNode {
  readonly name: string
  readonly context: Context.Context<TransportTest.Services>
  state: "up" | "cut off" | "crashed" | "stopped"
  /** Ends it, with nothing said to the store. */
  readonly crash: Effect.Effect<void>
  /** Cuts it off from the store. */
  readonly disconnect: TransportTest.Node["disconnect"]
  readonly reconnect: Effect.Effect<void>
  /** Ends it in order. */
  readonly stop: Effect.Effect<void>
  readonly run: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, Exclude<R, TransportTest.Services>>
  /** The same, for what lasts until the node ends. */
  readonly keep: <A, E, R>(
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E, Exclude<Exclude<R, TransportTest.Services>, Scope.Scope>>
}

/** From where names are counted: a test that wants the same ones again sets it. */
export const naming = { suite: globalThis.crypto.randomUUID().slice(0, 8), last: 0 }

/** A name that no other test, and no other run of the suite, uses. */
export const uniqueName = (kind: string): string => `${kind}-${naming.suite}-${++naming.last}`

/** The events of one kind, of one topic where it is given. */
export const eventsOf = <Tag extends History.Event["_tag"]>(
  history: History.History,
  tag: Tag,
  topic?: TestTopic
): ReadonlyArray<History.EventOf<Tag>> =>
  history.filter(
    (event): event is History.EventOf<Tag> =>
      event._tag === tag && (topic === undefined || ("topic" in event && event.topic === topic.name))
  )
