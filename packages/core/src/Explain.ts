/**
 * What an app promises from end to end, topic by topic, before it runs.
 *
 * `explain` builds an app's layers without starting them: consumers join
 * nothing, nothing is published, and the layers of Surety's packages open no
 * connection. What each of them says of itself (see `Description`) is put
 * together to the guarantee that holds from the publish to the effects, its
 * weakest link, and what would raise it.
 *
 * The derived guarantee goes by two questions, and by nothing else: can an
 * acknowledged message get lost, and can its effects be repeated? Assumptions
 * that nobody has checked do not lower it; they are listed.
 *
 * Known limits: other layers of the app are built as they are, with what they
 * do; a topic that is only published by handlers, or once the app runs, is not
 * known unless it is named by {@link publishing} or `publishes`; a consumer that
 * a fiber of its own starts is not seen.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { Assumption, Flaw, Part, Retention } from "./Description.ts"
import * as Guarantee from "./Guarantee.ts"
import { CurrentCollector, makeCollector } from "./internal/explain/collector.ts"
import * as internal from "./internal/explain/derive.ts"
import * as text from "./internal/explain/text.ts"
import type * as Topic from "./Topic.ts"

/**
 * What a topic declares that its messages need.
 *
 * @category models
 * @since 0.1.0
 */
export const Declared = Schema.Literals(["at-most-once", "at-least-once", "exactly-once", "exactly-once-kafka"])

/**
 * What holds from end to end:
 *
 * - `exactly-once`: neither loss nor repetition, of what is in the transaction;
 * - `at-least-once`: no loss; repetition is possible;
 * - `at-most-once`: no repetition; loss is possible;
 * - `best-effort`: both are possible.
 *
 * @category models
 * @since 0.1.0
 */
export const Derived = Schema.Literals(["exactly-once", "at-least-once", "at-most-once", "best-effort"])

/**
 * What holds from end to end.
 *
 * @category models
 * @since 0.1.0
 */
export type Derived = typeof Derived.Type

/**
 * The link at which a guarantee gives way first: by loss before repetition, and
 * by what is known before what is only assumed.
 *
 * @category models
 * @since 0.1.0
 */
export const WeakestLink = Schema.Struct({
  /** The layer, or the declaration. */
  link: Schema.String,
  allows: Flaw,
  /** When it gives way: "when the process ends", or "unless" what it assumes holds. */
  when: Schema.String,
  /** Whether it gives way only where an assumption does not hold. */
  assumed: Schema.Boolean,
  /** The layer, or the setting, that would raise it. */
  raisedBy: Schema.String
}).annotate({ identifier: "WeakestLink" })

/**
 * The link at which a guarantee gives way first.
 *
 * @category models
 * @since 0.1.0
 */
export type WeakestLink = typeof WeakestLink.Type

/**
 * A schedule, as stepping it shows. Durations are in milliseconds.
 *
 * @category models
 * @since 0.1.0
 */
export const Retries = Schema.Struct({
  /** The first delays, at most 5; without their jitter. None where they depend on something. */
  delays: Schema.Array(Schema.Number),
  /** How often it repeats; null when it is not known to end, or depends on something. */
  times: Schema.NullOr(Schema.Number),
  /** All delays together. */
  total: Schema.NullOr(Schema.Number),
  jittered: Schema.Boolean,
  /** On what its delays depend, where they cannot be told in advance. */
  dependsOn: Schema.NullOr(Schema.Literals(["failure", "time", "unknown"]))
}).annotate({ identifier: "Retries" })

/**
 * A schedule, as stepping it shows.
 *
 * @category models
 * @since 0.1.0
 */
export type Retries = typeof Retries.Type

/**
 * How a topic is published.
 *
 * @category models
 * @since 0.1.0
 */
export const Producer = Schema.Struct({
  /** Whether this app is known to publish it. */
  here: Schema.Boolean,
  /** Where the id of a message comes from, unless a publish gives one. */
  id: Schema.Literals(["payload", "generated"]),
  /** Where its key comes from, unless a publish gives one. */
  key: Schema.Literals(["payload", "none"]),
  /** How long each try waits for its acknowledgement; null when publishing is tried once. */
  ackTimeout: Schema.NullOr(Schema.Number),
  retries: Schema.NullOr(Retries)
}).annotate({ identifier: "Producer" })

/**
 * How a topic is published.
 *
 * @category models
 * @since 0.1.0
 */
export type Producer = typeof Producer.Type

/**
 * What becomes of the failures of one tag.
 *
 * @category models
 * @since 0.1.0
 */
export const Failures = Schema.Struct({
  /** Null for all that no rule names. */
  tag: Schema.NullOr(Schema.String),
  retries: Schema.NullOr(Retries),
  then: Schema.Literals(["dead-letter", "discard", "stop"])
}).annotate({ identifier: "Failures" })

/**
 * A consumer group. Durations are in milliseconds; null is without limit.
 *
 * @category models
 * @since 0.1.0
 */
export const Group = Schema.Struct({
  name: Schema.String,
  startFrom: Schema.Literals(["earliest", "latest"]),
  concurrency: Schema.Number,
  prefetch: Schema.Number,
  /** Of a consumer whose handler takes batches. */
  batch: Schema.NullOr(Schema.Struct({ maxSize: Schema.Number, maxWait: Schema.Number })),
  handlerTimeout: Schema.NullOr(Schema.Number),
  drainTimeout: Schema.NullOr(Schema.Number),
  /** Retries due later than this are stored and redelivered; null where all are waited for under the lease. */
  redeliverAfter: Schema.NullOr(Schema.Number),
  /** A message whose process ends more often than this while it is handled is dead-lettered; null at-most-once. */
  maxCrashes: Schema.NullOr(Schema.Number),
  failures: Schema.Array(Failures),
  /** Handlers that die, or time out; what outlives it is dead-lettered. */
  defects: Schema.NullOr(Retries),
  /** Starts the consumer anew when the transport fails; null when it stays failed. */
  restart: Schema.NullOr(Retries),
  /** What its settings leave possible. */
  possible: Schema.Array(Schema.String)
}).annotate({ identifier: "Group" })

/**
 * A consumer group. Durations are in milliseconds; null is without limit.
 *
 * @category models
 * @since 0.1.0
 */
export type Group = typeof Group.Type

/**
 * The transport of a topic.
 *
 * @category models
 * @since 0.1.0
 */
export const Transport = Schema.Struct({
  name: Schema.String,
  durable: Schema.String,
  order: Schema.String,
  crossProcess: Schema.Boolean,
  transactional: Schema.Boolean,
  /** How long a silent member keeps its partitions, in milliseconds; null where that is not declared. */
  lease: Schema.NullOr(Schema.Number),
  maxRecordBytes: Schema.Number
}).annotate({ identifier: "Transport" })

/**
 * A topic, on one channel and one store.
 *
 * @category models
 * @since 0.1.0
 */
export const TopicExplanation = Schema.Struct({
  name: Schema.String,
  /** Null for the unnamed one. */
  channel: Schema.NullOr(Schema.String),
  partitions: Schema.Number,
  declared: Declared,
  derived: Derived,
  /** What the declared guarantee promises. */
  promise: Schema.String,
  /** Null where nothing gives way, and nothing is assumed. */
  weakestLink: Schema.NullOr(WeakestLink),
  producer: Producer,
  transport: Transport,
  groups: Schema.Array(Group),
  retention: Schema.Struct({
    /** Null where the transport does not declare it. */
    messages: Schema.NullOr(Retention),
    /** Of the ids that an inbox has settled; null without one. */
    settledIds: Schema.NullOr(Retention)
  }),
  /** What the guarantee is made of, each part in its own words. */
  parts: Schema.Array(Part),
  /** What `derived` takes for granted: the parts' assumptions, each once, but for those that would change nothing. */
  assumptions: Schema.Array(Schema.Struct({ link: Schema.String, ...Assumption.fields })),
  /** What may be observed although nothing is broken. */
  possible: Schema.Array(Schema.String)
}).annotate({ identifier: "TopicExplanation" })

/**
 * A topic, on one channel and one store.
 *
 * @category models
 * @since 0.1.0
 */
export type TopicExplanation = typeof TopicExplanation.Type

/**
 * An app, explained. Plain data: `JSON.stringify` takes it as it is, and this
 * schema describes it.
 *
 * @category models
 * @since 0.1.0
 */
export const Explanation = Schema.Struct({ topics: Schema.Array(TopicExplanation) }).annotate({
  identifier: "Explanation"
})

/**
 * An app, explained.
 *
 * @category models
 * @since 0.1.0
 */
export type Explanation = typeof Explanation.Type

/**
 * The guarantee services of topics.
 *
 * @category models
 * @since 0.1.0
 */
export type RequiredBy<T> = T extends Topic.Topic<any, infer G, infer C> ? Guarantee.Required<G, C> : never

/**
 * Options of `explain` and `check`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<T> {
  /** Topics that the app publishes, perhaps without consuming them. */
  readonly publishes?: ReadonlyArray<T> | undefined
}

/**
 * Tells `explain` that the app publishes these topics. It does nothing when the
 * app runs, but requires their guarantees, as publishing does.
 *
 * **Example**
 *
 * ```ts
 * const App = Layer.mergeAll(Ledger, Explain.publishing(Receipts)).pipe(Layer.provide(SuretyPg.layer))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const publishing = <const T extends ReadonlyArray<Topic.Any>>(
  ...topics: T
): Layer.Layer<never, never, RequiredBy<T[number]>> =>
  Layer.effectDiscard(
    Effect.flatMap(CurrentCollector, (collector) =>
      Effect.forEach(
        topics,
        (topic) =>
          Effect.map(Guarantee.required(topic), (delivery) => void collector?.published.push({ topic, delivery })),
        { discard: true }
      )
    )
  ) as Layer.Layer<never, never, RequiredBy<T[number]>>

/**
 * Explains the topics that an app consumes, and those that it is said to
 * publish.
 *
 * **Details**
 *
 * The app's layers are built apart from any that run, and released again. The
 * guarantee of what is in `publishes` is taken from what the app provides, or
 * else is required.
 *
 * Retry schedules are stepped, without waiting, to see what they do.
 *
 * **Gotchas**
 *
 * Needs no connection for what Surety does. A layer of your own that connects
 * when it is built does so here, too: give `explain` a stand-in for it.
 *
 * **Example**
 *
 * ```ts
 * Surety.explain(App).pipe(Effect.flatMap((explanation) => Console.log(Explain.toText(explanation))))
 * ```
 *
 * @category explaining
 * @since 0.1.0
 */
export const explain = <Out, E, In, const T extends Topic.Any = never>(
  app: Layer.Layer<Out, E, In>,
  options: Options<T> = {}
): Effect.Effect<Explanation, E, In | Exclude<RequiredBy<T>, Out>> =>
  Effect.scoped(
    Effect.gen(function* () {
      const collector = makeCollector()
      const scope = yield* Effect.scope
      // A memo map of its own: a layer that runs is not explained, and one that was explained does not run.
      yield* Layer.buildWithMemoMap(
        Layer.provideMerge(publishing(...(options.publishes ?? [])), app),
        Layer.makeMemoMapUnsafe(),
        scope
      ).pipe(Effect.provideService(CurrentCollector, collector))
      return yield* internal.derive(collector)
    })
  ) as Effect.Effect<Explanation, E, In | Exclude<RequiredBy<T>, Out>>

/**
 * A topic that has less than is required of it.
 *
 * @category errors
 * @since 0.1.0
 */
export const Unmet = Schema.Struct({
  /** The topic, and `@` its channel where that is a named one. */
  topic: Schema.String,
  required: Declared,
  /** Null where the app has no such topic. */
  derived: Schema.NullOr(Derived),
  /** Where it gives way, and what would raise it; null where the app has no such topic. */
  weakestLink: Schema.NullOr(WeakestLink)
})

/**
 * A topic that has less than is required of it.
 *
 * @category errors
 * @since 0.1.0
 */
export type Unmet = typeof Unmet.Type

/**
 * An app does not give its topics what is required of them.
 *
 * @category errors
 * @since 0.1.0
 */
export class GuaranteeNotMet extends Schema.TaggedError<GuaranteeNotMet>("@surety/core/Explain/GuaranteeNotMet")(
  "GuaranteeNotMet",
  { unmet: Schema.Array(Unmet) }
) {
  override get message(): string {
    return this.unmet.map(text.unmet).join("\n")
  }
}

/**
 * Fails when a topic has less than is required of it: for CI.
 *
 * **Details**
 *
 * Topics are named as they are declared; those on a named channel as
 * `name@channel`. Without `required`, each has to have what it declares. A name
 * that the app does not have fails, too.
 *
 * Exactly-once is enough for both others; at-least-once is not enough for
 * at-most-once, since effects may be repeated.
 *
 * **Example**
 *
 * ```ts
 * Surety.check(App, { payments: "exactly-once", "log@Audit": "at-least-once" })
 * ```
 *
 * @category explaining
 * @since 0.1.0
 */
export const check = <Out, E, In, const T extends Topic.Any = never>(
  app: Layer.Layer<Out, E, In>,
  required?: Readonly<Record<string, Guarantee.Name>>,
  options?: Options<T>
): Effect.Effect<Explanation, GuaranteeNotMet | E, In | Exclude<RequiredBy<T>, Out>> =>
  Effect.flatMap(explain(app, options), (explanation): Effect.Effect<Explanation, GuaranteeNotMet> => {
    const unmet = internal.unmet(explanation, required)
    return unmet.length === 0 ? Effect.succeed(explanation) : Effect.fail(new GuaranteeNotMet({ unmet }))
  })

/**
 * How `toText` writes.
 *
 * @category models
 * @since 0.1.0
 */
export interface TextOptions {
  /** Where lines are broken. Default 96; words that are longer are not. */
  readonly width?: number | undefined
  /** Whether to use ANSI colours. Default: no. */
  readonly colors?: boolean | undefined
}

/**
 * An explanation for a terminal.
 *
 * @category rendering
 * @since 0.1.0
 */
export const toText = (explanation: Explanation, options: TextOptions = {}): string =>
  text.render(explanation, { width: options.width ?? 96, colors: options.colors ?? false })
