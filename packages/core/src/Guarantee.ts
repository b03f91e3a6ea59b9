/**
 * The delivery guarantees, as services that only composing layers provides.
 *
 * A topic names the guarantee that its messages need; publishing to it and
 * consuming it require the service of that name. The services cannot be made in
 * any other way than by the layers of this module: their shape holds a sealed
 * field.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Acks from "./Acks.ts"
import * as Channel from "./Channel.ts"
import type { Part } from "./Description.ts"
import { Inbox } from "./Inbox.ts"
import { tooEarly } from "./internal/horizon.ts"
import { LogTransactions } from "./LogTransactions.ts"
import { Outbox } from "./Outbox.ts"
import { Transport } from "./Transport.ts"
import type { TransportError } from "./TransportError.ts"

const seal: unique symbol = Symbol("~@surety/core/Guarantee/seal")

/**
 * The names of the guarantees.
 *
 * @category models
 * @since 0.1.0
 */
export type Name = "at-most-once" | "at-least-once" | "exactly-once" | "exactly-once-kafka"

/**
 * What a guarantee is made of. Sealed: only the layers of this module make one.
 *
 * @category models
 * @since 0.1.0
 */
export interface Delivery<G extends Name> {
  readonly [seal]: G
  readonly transport: Transport["Service"]
  /** Publishing waits for these, and repeats until it has them. */
  readonly confirmation: G extends "at-most-once" ? undefined : Confirmation
  /** Handlers run in transactions of these. */
  readonly unit: G extends "exactly-once" | "exactly-once-kafka" ? UnitOfWork : undefined
}

/**
 * How publishing reaches its acknowledgement.
 *
 * @category models
 * @since 0.1.0
 */
export interface Confirmation {
  readonly acks: Acks.Acks["Service"]
  readonly retry: Schedule.Schedule<unknown, TransportError>
  /** For how long the schedule repeats a publish, at the most; undefined where that is not known. */
  readonly repeatsFor: Duration.Duration | undefined
}

/**
 * The parts of a transactional settlement.
 *
 * @category models
 * @since 0.1.0
 */
export interface UnitOfWork {
  readonly inbox: Inbox["Service"]
  readonly outbox: Outbox["Service"]
}

/**
 * Layers that do not fit together.
 *
 * @category errors
 * @since 0.1.0
 */
export class CompositionError extends Schema.TaggedError<CompositionError>("@surety/core/CompositionError")(
  "CompositionError",
  { guarantee: Schema.String, detail: Schema.String }
) {
  override get message(): string {
    return `${this.guarantee} cannot be made of these layers: ${this.detail}`
  }
}

/**
 * A handler starts 0 or 1 times per message: progress is stored *before* it
 * runs, and publishing is tried once.
 *
 * **Gotchas**
 *
 * What remains possible: loss, at every hop.
 *
 * @category services
 * @since 0.1.0
 */
export class AtMostOnce extends Context.Service<AtMostOnce, Delivery<"at-most-once">>()("@surety/core/AtMostOnce") {
  /** Made of a transport alone. */
  static readonly layer: Layer.Layer<AtMostOnce, never, Transport> = Layer.effect(
    AtMostOnce,
    Effect.map(Transport, (transport) => atMostOnce(transport))
  )
}

const atMostOnce = (transport: Transport["Service"]) =>
  AtMostOnce.of({ [seal]: "at-most-once", transport, confirmation: undefined, unit: undefined })

/**
 * The schedule by which at-least-once publishing is repeated unless another one
 * is given: exponential from 50 milliseconds to 5 seconds, jittered, for a
 * minute.
 *
 * @category schedules
 * @since 0.1.0
 */
export const defaultRetry: Schedule.Schedule<unknown, TransportError> = Schedule.min([
  Schedule.exponential("50 millis"),
  Schedule.spaced("5 seconds")
]).pipe(Schedule.jittered, Schedule.upTo({ duration: "1 minute" }))

/** A minute, and the last delay. */
const defaultRepeatsFor = Duration.seconds(70)

const atLeastOnce = (retry: Schedule.Schedule<unknown, TransportError>, repeatsFor: Duration.Duration | undefined) =>
  Effect.contextWith((context: Context.Context<Transport | Acks.Acks>) =>
    Effect.succeed(
      AtLeastOnce.of({
        [seal]: "at-least-once",
        transport: Context.get(context, Transport),
        confirmation: { acks: Context.get(context, Acks.Acks), retry, repeatsFor },
        unit: undefined
      })
    )
  )

/**
 * Once `publish` has succeeded, every group registered by then handles the
 * message or finds it in its dead letters.
 *
 * **Gotchas**
 *
 * What remains possible: a handler may run twice for one message, and effects
 * of a paused worker may follow its successor's (hand `envelope.epoch` to your
 * stores as a fencing token).
 *
 * @category services
 * @since 0.1.0
 */
export class AtLeastOnce extends Context.Service<AtLeastOnce, Delivery<"at-least-once">>()("@surety/core/AtLeastOnce") {
  /** Made of a transport and its acknowledgements; publishing is repeated by {@link defaultRetry}. */
  static readonly layer: Layer.Layer<AtLeastOnce, never, Transport | Acks.Acks> = Layer.effect(
    AtLeastOnce,
    Effect.suspend(() => atLeastOnce(defaultRetry, defaultRepeatsFor))
  )

  /**
   * The same, with a schedule of your own for repeating publishes. Every repeat
   * carries the same message id; when the schedule ends, the error says whether
   * the message was certainly not sent, or may have been.
   *
   * `repeatsFor` says for how long the schedule goes on, its last delay
   * included. Without it, an inbox that forgets is refused.
   */
  static readonly layerWith = (options: {
    readonly retry: Schedule.Schedule<unknown, TransportError>
    readonly repeatsFor?: Duration.Input | undefined
  }): Layer.Layer<AtLeastOnce, never, Transport | Acks.Acks> =>
    Layer.effect(
      AtLeastOnce,
      Effect.suspend(() =>
        atLeastOnce(
          options.retry,
          options.repeatsFor === undefined ? undefined : Duration.fromInputUnsafe(options.repeatsFor)
        )
      )
    )
}

/**
 * The handler's SQL writes and its published messages commit exactly once per
 * (group, topic, id).
 *
 * **Gotchas**
 *
 * What remains possible: a handler may *run* again after a rollback; effects
 * outside the transaction are the user's.
 *
 * @category services
 * @since 0.1.0
 */
export class ExactlyOnce extends Context.Service<ExactlyOnce, Delivery<"exactly-once">>()("@surety/core/ExactlyOnce") {
  /**
   * Made of at-least-once delivery, an inbox and an outbox. Refused with a
   * `CompositionError` where inbox and outbox do not share a store, so that no
   * transaction could hold them both; and where the transport is of another store
   * than an inbox that cannot keep its progress (that of `PgInbox.layer` can).
   *
   * Refused as well: an inbox that forgets what was settled while it may still
   * come again. Its retention has to be `forever`, or at least the sum of what the
   * parts declare: the retention of the transport's log, its lease, and for how
   * long a publish is repeated, with its acknowledgement. Where one of them is
   * unlimited, or not declared, or the transport is of another store, where a
   * message may wait longer for a group that lags, only `forever` is accepted.
   *
   * Retries of consumers and the age of dead letters are not in the sum, since an
   * inbox counts its retention from the oldest message that the group has not
   * settled, those that wait for a retry included, and keeps the ids of dead
   * letters for as long as the group has any.
   */
  static readonly layer: Layer.Layer<ExactlyOnce, CompositionError, AtLeastOnce | Inbox | Outbox> = Layer.effect(
    ExactlyOnce,
    Effect.contextWith((context: Context.Context<AtLeastOnce | Inbox | Outbox>) =>
      exactlyOnce(Context.get(context, AtLeastOnce), Context.get(context, Inbox), Context.get(context, Outbox))
    )
  )
}

const exactlyOnce = (
  { confirmation, transport }: AtLeastOnce["Service"],
  inbox: Inbox["Service"],
  outbox: Outbox["Service"]
): Effect.Effect<ExactlyOnce["Service"], CompositionError> => {
  if (inbox.store !== outbox.store) {
    return Effect.fail(
      new CompositionError({
        guarantee: "exactly-once",
        detail: "the inbox and the outbox are in different stores; build both over the same client and schema"
      })
    )
  }
  const joined = transport.store === inbox.store ? { transport, inbox } : inbox.adopt?.(transport)
  if (joined === undefined) {
    return Effect.fail(
      new CompositionError({
        guarantee: "exactly-once",
        detail: `the ${transport.characteristics.name} transport and the inbox are in different stores, and this inbox cannot keep the progress of another one's; build both over the same client and schema, or take PgInbox.layer of @surety/pg`
      })
    )
  }
  const detail = tooEarly(inbox, transport, confirmation)
  if (detail !== undefined) return Effect.fail(new CompositionError({ guarantee: "exactly-once", detail }))
  return Effect.succeed(
    ExactlyOnce.of({
      [seal]: "exactly-once",
      transport: joined.transport,
      confirmation,
      unit: { inbox: joined.inbox, outbox }
    })
  )
}

/**
 * The three of them over one backend, in one step: what `Surety.layer` and
 * `Surety.layerMemory` build.
 *
 * @internal
 */
export const all = Effect.flatMap(atLeastOnce(defaultRetry, defaultRepeatsFor), (acknowledged) =>
  Effect.contextWith((context: Context.Context<Inbox | Outbox>) =>
    Effect.map(exactlyOnce(acknowledged, Context.get(context, Inbox), Context.get(context, Outbox)), (once) =>
      Context.make(AtMostOnce, atMostOnce(acknowledged.transport)).pipe(
        Context.add(AtLeastOnce, acknowledged),
        Context.add(ExactlyOnce, once)
      )
    )
  )
)

/**
 * The consumed offsets and the records that a handler publishes commit in one
 * transaction of Kafka: readers of committed records see each of them once.
 *
 * **Gotchas**
 *
 * What remains possible: all effects outside of Kafka, SQL included, are
 * repeated with their handler; and a message that was published twice is handled
 * twice, whatever its id: there is no inbox.
 *
 * @category services
 * @since 0.1.0
 */
export class KafkaExactlyOnce extends Context.Service<KafkaExactlyOnce, Delivery<"exactly-once-kafka">>()(
  "@surety/core/KafkaExactlyOnce"
) {
  /**
   * Made of at-least-once delivery and the transactions of its cluster, which
   * `KafkaTransactions.layer` of `@surety/kafka` provides. Refused where they
   * are of different clusters.
   */
  static readonly layer: Layer.Layer<KafkaExactlyOnce, CompositionError, AtLeastOnce | LogTransactions> = Layer.effect(
    KafkaExactlyOnce,
    Effect.gen(function* () {
      const { confirmation, transport } = yield* AtLeastOnce
      const unit = yield* LogTransactions
      if (transport.store !== unit.inbox.store) {
        return yield* new CompositionError({
          guarantee: "exactly-once-kafka",
          detail: `the transactions are not those of the ${transport.characteristics.name} transport; build both over one KafkaClient`
        })
      }
      return KafkaExactlyOnce.of({ [seal]: "exactly-once-kafka", transport, confirmation, unit })
    })
  )
}

const parts: { readonly [G in Name]: Part } = {
  "at-most-once": {
    layer: "AtMostOnce.layer",
    promise: "a handler starts 0 or 1 times per message: progress is stored before it runs",
    gaps: [
      {
        allows: "loss",
        when: "a publish fails, or the process ends between storing the progress and handling the message",
        raisedBy: 'guarantee: "at-least-once" on the topic, and AtLeastOnce.layer'
      }
    ],
    assumptions: [],
    possible: ["a message that a transaction publishes is lost where its process ends just after the commit"]
  },
  "at-least-once": {
    layer: "AtLeastOnce.layer",
    promise: "every group handles an acknowledged message, or finds it in its dead letters",
    gaps: [
      {
        allows: "repetition",
        when: "a process ends, or loses its lease, between a handler's effects and storing the progress",
        raisedBy: 'guarantee: "exactly-once" on the topic, and ExactlyOnce.layer over an Inbox and an Outbox'
      }
    ],
    assumptions: [],
    possible: [
      "effects of a paused worker may follow its successor's: hand envelope.epoch to your stores as a fencing token"
    ]
  },
  "exactly-once": {
    layer: "ExactlyOnce.layer",
    promise: "a handler's writes and the messages it publishes commit exactly once per group, topic and id",
    gaps: [],
    assumptions: [],
    possible: [
      "a handler runs again after a rollback",
      "effects outside its transaction (a mail, an HTTP call) may be repeated: publish a message for them"
    ]
  },
  "exactly-once-kafka": {
    layer: "KafkaExactlyOnce.layer",
    promise:
      "the consumed offsets and the messages that a handler publishes commit in one transaction; readers of committed records see each once",
    gaps: [],
    assumptions: [],
    possible: [
      "a handler runs again after an abort",
      "all effects outside of Kafka may be repeated, SQL included: consume into a database with an exactly-once topic"
    ]
  }
}

/**
 * What the layer that made a guarantee says of itself.
 *
 * @category accessors
 * @since 0.1.0
 */
export const describe = (delivery: Delivery<Name>): Part => parts[delivery[seal]]

/**
 * The service of each guarantee.
 *
 * @category models
 * @since 0.1.0
 */
export interface Services {
  readonly "at-most-once": AtMostOnce
  readonly "at-least-once": AtLeastOnce
  readonly "exactly-once": ExactlyOnce
  readonly "exactly-once-kafka": KafkaExactlyOnce
}

/**
 * What publishing to, or consuming, a topic of guarantee `G` on channel `C`
 * requires.
 *
 * @category models
 * @since 0.1.0
 */
export type Required<G extends Name, C> = Channel.Of<Services[G], C>

const keys = {
  "at-most-once": AtMostOnce,
  "at-least-once": AtLeastOnce,
  "exactly-once": ExactlyOnce,
  "exactly-once-kafka": KafkaExactlyOnce
} as const

/**
 * The guarantee service that a topic requires.
 *
 * @category accessors
 * @since 0.1.0
 */
export const required = <G extends Name, C>(topic: {
  readonly guarantee: G
  readonly channel: Channel.ChannelClass<C>
}): Effect.Effect<Delivery<Name>, never, Required<G, C>> =>
  Effect.service(
    Channel.key(keys[topic.guarantee] as unknown as Context.Key<Services[G], Delivery<Name>>, topic.channel)
  ) as Effect.Effect<Delivery<Name>, never, Required<G, C>>
