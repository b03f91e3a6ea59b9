/**
 * Consuming.
 *
 * A consumer is a value: a topic, a group, a handler, and what becomes of each
 * of its failures. Its error type holds what has not been decided yet, as in
 * any Effect; `layer` and `run` accept only a consumer in which nothing is left
 * undecided.
 *
 * What a handler's message is settled with is the guarantee of the topic:
 *
 * - at-most-once: progress is stored before the handler runs.
 * - at-least-once: progress is stored after the handler, or its dead letter.
 * - exactly-once: the inbox row, the handler's writes, the messages that it
 *   published and the progress commit in one transaction.
 *
 * Known limits: a retry's delay is slept under the lease, so that a process
 * that ends in between starts the schedule again at the stored number of
 * failures; a schedule that depends on its inputs is then replayed with the
 * newest error in place of the forgotten ones.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import { type Pipeable, Prototype } from "effect/Pipeable"
import * as Schedule from "effect/Schedule"
import type * as Schema from "effect/Schema"
import type { Scope } from "effect/Scope"
import type * as Stream from "effect/Stream"
import type * as Channel from "./Channel.ts"
import type { ConsumeError } from "./ConsumeError.ts"
import type { Envelope } from "./Envelope.ts"
import type * as Guarantee from "./Guarantee.ts"
import * as engine from "./internal/engine/consumer.ts"
import { Rejected, RetryAfter } from "./internal/engine/verdict.ts"
import type * as Topic from "./Topic.ts"
import type { Transaction } from "./Transaction.ts"
import type { StartFrom } from "./Transport.ts"

const TypeId = "~@surety/core/Consumer"

/**
 * The guarantees under which a handler may start more than once for a message.
 *
 * @category models
 * @since 0.1.0
 */
export type Repeatable = "at-least-once" | "exactly-once" | "exactly-once-kafka"

/**
 * Consumes messages of payload `A`. `E` holds the failures that have not been
 * decided yet; `R` what it requires; `G` is the guarantee of its topic, any one
 * where it is left out.
 *
 * @category models
 * @since 0.1.0
 */
export interface Consumer<in out A, out E, out R, out G extends Guarantee.Name = any> extends Pipeable {
  readonly [TypeId]: { readonly _A: (_: A) => A; readonly _E: () => E; readonly _R: () => R; readonly _G: () => G }
  readonly topic: Topic.Any
  readonly settings: Settings
  readonly handler: (messages: ReadonlyArray<Envelope<any>>) => Effect.Effect<unknown, unknown, any>
  readonly rules: ReadonlyArray<Rule>
}

/**
 * What becomes of failures with one of the tags, or of all.
 *
 * @category models
 * @since 0.1.0
 */
export type Rule =
  | {
      readonly _tag: "Retry"
      readonly tags: ReadonlyArray<string> | undefined
      readonly schedule: Schedule.Schedule<unknown, any, never, any>
    }
  | { readonly _tag: "DeadLetter" | "Discard" | "Stop"; readonly tags: ReadonlyArray<string> | undefined }

/**
 * The settings of a consumer, with their defaults filled in.
 *
 * @category models
 * @since 0.1.0
 */
export interface Settings {
  readonly group: string
  readonly concurrency: number
  readonly batchSize: number
  /** Of a consumer whose handler takes batches; `maxWait` in milliseconds. */
  readonly batch: { readonly maxSize: number; readonly maxWait: number } | undefined
  readonly prefetch: number
  readonly startFrom: StartFrom
  readonly handlerTimeout: Duration.Duration
  readonly drainTimeout: Duration.Duration
  readonly defectRetry: Schedule.Schedule<unknown, unknown>
  readonly maxCrashes: number
  readonly redeliverAfter: Duration.Duration
  readonly restart: Schedule.Schedule<unknown, ConsumeError> | undefined
}

/**
 * How a consumer is declared.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<H> {
  /** Consumers of one group share the topic's partitions; each group sees every message. Named as topics are. */
  readonly group: string
  /** Handles one message. What it returns is ignored. */
  readonly handler: H
  /** How many handlers run at once, never two of one key. Default 1. */
  readonly concurrency?: number | undefined
  /** The most messages that share a transaction, exactly-once. Default 100. */
  readonly batchSize?: number | undefined
  /**
   * The most messages of a partition held in memory. After a crash of the
   * process so many may have caused it, and are handled one by one. Default 128.
   */
  readonly prefetch?: number | undefined
  /** Where a group that is new to the topic starts. Default `earliest`. */
  readonly startFrom?: StartFrom | undefined
  /** A handler that takes longer is interrupted and counts as failed. Default 5 minutes. */
  readonly handlerTimeout?: Duration.Input | undefined
  /** How long running handlers may go on when the consumer stops. Default 10 seconds. */
  readonly drainTimeout?: Duration.Input | undefined
  /**
   * Repeats handlers that died, were interrupted from within, or timed out.
   * What outlives it is dead-lettered. Default: exponential from 100
   * milliseconds, 3 times. Without effect on an at-most-once topic, whose
   * handlers start once.
   */
  readonly defectRetry?: Schedule.Schedule<unknown, unknown> | undefined
  /**
   * A message is dead-lettered without another attempt once its process has
   * ended more often than this while it was being handled. The first end may be
   * the doing of another message; after it, the message is handled alone.
   * Default 3.
   */
  readonly maxCrashes?: number | undefined
  /**
   * A retry that is due later than this is stored and redelivered, with its
   * attempt number, by whoever holds the partition then; an earlier one is
   * waited for under the lease. Default 10 seconds. Transports that cannot
   * store it wait for every one.
   */
  readonly redeliverAfter?: Duration.Input | undefined
  /**
   * Starts the consumer anew after a transport error that repeating did not
   * mend, such as refused credentials. Not when the first start fails, nor after
   * a `stop`. Default: the consumer stays failed.
   */
  readonly restart?: Schedule.Schedule<unknown, ConsumeError> | undefined
}

/** @internal */
export type Given<G extends Guarantee.Name, C> = Scope | (G extends "exactly-once" ? Channel.Of<Transaction, C> : never)
type Tags<E> = Extract<E, { readonly _tag: string }>["_tag"]

/**
 * Declares a consumer.
 *
 * **Details**
 *
 * The handler is given the decoded payload and its envelope, a `Scope` that
 * closes when it ends, and, on an exactly-once topic, the `Transaction` of its
 * message. A payload that does not decode goes to the dead letters, with its
 * bytes, and the handler never sees it.
 *
 * **Gotchas**
 *
 * An exactly-once handler runs in an open transaction: keep calls to other
 * systems out of it, publish a message for them instead. Its forked fibers must
 * end before it returns.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <
  S extends Schema.Constraint,
  G extends Guarantee.Name,
  C,
  Handled extends Effect.Effect<unknown, unknown, unknown>
>(
  topic: Topic.Topic<S, G, C>,
  // Spelled out, so that `Effect.fn` is told the types of its arguments; what it returns as a whole, so that branches may
  // fail with different errors.
  options: Options<(payload: S["Type"], envelope: Envelope<S["Type"]>) => Handled>
): Consumer<
  S["Type"],
  Effect.Error<Handled>,
  Guarantee.Required<G, C> | S["DecodingServices"] | Exclude<Effect.Services<Handled>, Given<G, C>>,
  G
> =>
  of({
    topic,
    handler: ([message]) => options.handler(message!.payload, message!),
    rules: [],
    settings: settingsOf(options, undefined)
  })

/**
 * How a consumer of batches is declared.
 *
 * @category models
 * @since 0.1.0
 */
export interface BatchOptions<H> extends Omit<Options<H>, "batchSize"> {
  /** The most messages of a batch. Default 100. */
  readonly maxSize?: number | undefined
  /** How long a batch waits to be full, once it has a message. Default: not at all. */
  readonly maxWait?: Duration.Input | undefined
}

/**
 * Declares a consumer whose handler takes several messages of a partition at
 * once: for one statement, or one request, instead of many.
 *
 * **Details**
 *
 * Messages of one key are in their order. Exactly-once, a batch is one
 * transaction. A batch that fails is halved, until the message at fault stands
 * alone: it has its retries and its disposition, and the others are handled
 * without it. Messages that failed before, or may have killed their process,
 * come alone. Retried ones of a batch that failed count one attempt each only
 * once they stand alone.
 *
 * **Gotchas**
 *
 * At-least-once, the messages of a batch that failed are handled again.
 * At-most-once, they share its failure: none of them is handled again.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeBatch = <
  S extends Schema.Constraint,
  G extends Guarantee.Name,
  C,
  Handled extends Effect.Effect<unknown, unknown, unknown>
>(
  topic: Topic.Topic<S, G, C>,
  options: BatchOptions<(messages: ReadonlyArray<Envelope<S["Type"]>>) => Handled>
): Consumer<
  S["Type"],
  Effect.Error<Handled>,
  Guarantee.Required<G, C> | S["DecodingServices"] | Exclude<Effect.Services<Handled>, Given<G, C>>,
  G
> =>
  of({
    topic,
    handler: options.handler,
    rules: [],
    settings: settingsOf(options, {
      maxSize: options.maxSize ?? 100,
      maxWait: Duration.toMillis(Duration.fromInputUnsafe(options.maxWait ?? 0))
    })
  })

const settingsOf = (options: Options<unknown>, batch: Settings["batch"]): Settings => ({
  group: options.group,
  concurrency: options.concurrency ?? 1,
  batchSize: options.batchSize ?? 100,
  batch,
  prefetch: options.prefetch ?? 128,
  startFrom: options.startFrom ?? "earliest",
  handlerTimeout: Duration.fromInputUnsafe(options.handlerTimeout ?? "5 minutes"),
  drainTimeout: Duration.fromInputUnsafe(options.drainTimeout ?? "10 seconds"),
  defectRetry:
    options.defectRetry ?? Schedule.exponential("100 millis").pipe(Schedule.jittered, Schedule.upTo({ times: 3 })),
  maxCrashes: options.maxCrashes ?? 3,
  redeliverAfter: Duration.fromInputUnsafe(options.redeliverAfter ?? "10 seconds"),
  restart: options.restart
})

const of = (fields: Pick<Consumer<any, any, any>, "topic" | "settings" | "handler" | "rules">): any =>
  Object.assign(Object.create(Prototype), { [TypeId]: TypeId }, fields)

const withRule = (self: Consumer<any, any, any>, rule: Rule): any => of({ ...self, rules: [...self.rules, rule] })

const tagsOf = (tag: string | ReadonlyArray<string>): ReadonlyArray<string> => (typeof tag === "string" ? [tag] : tag)

/**
 * Repeats the handler by a schedule after every failure, or after those of the
 * named tags; the schedule's input is the error.
 *
 * **Details**
 *
 * What outlives the schedule keeps its place in the error type, for a
 * disposition to decide. Later messages of the same key wait; others go on. The
 * first rule that names an error applies. Not for at-most-once topics, whose
 * handlers start once: it does not compile.
 *
 * @category dispositions
 * @since 0.1.0
 */
export const retry: {
  <E, R2 = never>(
    schedule: Schedule.Schedule<unknown, NoInfer<E>, never, R2>
  ): <A, R, G extends Repeatable>(self: Consumer<A, E, R, G>) => Consumer<A, E, R | R2, G>
  <E, const T extends Tags<E>, R2 = never>(
    tag: T | ReadonlyArray<T>,
    schedule: Schedule.Schedule<unknown, NoInfer<Extract<E, { readonly _tag: T }>>, never, R2>
  ): <A, R, G extends Repeatable>(self: Consumer<A, E, R, G>) => Consumer<A, E, R | R2, G>
} = (...args: [any] | [any, any]) =>
  ((self: Consumer<any, any, any>) =>
    withRule(
      self,
      args.length === 1
        ? { _tag: "Retry", tags: undefined, schedule: args[0] }
        : { _tag: "Retry", tags: tagsOf(args[0]), schedule: args[1] }
    )) as any

interface ByTag {
  <E, const T extends Tags<E>>(
    tag: T | ReadonlyArray<T>
  ): <A, R, G extends Guarantee.Name>(self: Consumer<A, E, R, G>) => Consumer<A, Exclude<E, { readonly _tag: T }>, R, G>
}

const byTag =
  (_tag: "DeadLetter" | "Discard" | "Stop"): ByTag =>
  (tag: string | ReadonlyArray<string>) =>
    ((self: Consumer<any, any, any>) => withRule(self, { _tag, tags: tagsOf(tag) })) as any

/**
 * Sends failures of these tags to the dead letters, once their retries are over.
 *
 * @category dispositions
 * @since 0.1.0
 */
export const deadLetter: ByTag = byTag("DeadLetter")

/**
 * Settles messages that fail with these tags as if they had been handled, once
 * their retries are over.
 *
 * @category dispositions
 * @since 0.1.0
 */
export const discard: ByTag = byTag("Discard")

/**
 * Stops the consumer, with the message unsettled, when it fails with these tags
 * and its retries are over: for failures that every later message would share.
 * No other handler begins; those that run may end, within `drainTimeout`.
 *
 * @category dispositions
 * @since 0.1.0
 */
export const stop: ByTag = byTag("Stop")

/**
 * Sends every failure that has not been decided to the dead letters.
 *
 * @category dispositions
 * @since 0.1.0
 */
export const orDeadLetter = <A, E, R, G extends Guarantee.Name>(self: Consumer<A, E, R, G>): Consumer<A, never, R, G> =>
  withRule(self, { _tag: "DeadLetter", tags: undefined })

/**
 * Called in a handler: sends its message to the dead letters at once, whatever
 * the consumer's rules say. `reason` is kept with it. Its transaction, if it is
 * in one, is rolled back.
 *
 * @category verdicts
 * @since 0.1.0
 */
export const reject = (reason: string): Effect.Effect<never> => Effect.die(new Rejected(reason))

/**
 * Called in a handler: runs it again after a delay, whatever the consumer's
 * rules say, as when a server has answered with `Retry-After`. Its transaction,
 * if it is in one, is rolled back, and the attempt counts as a failed one. It
 * uses up none of a schedule's retries, unless the message is redelivered or the
 * process ends in between: the store tells no failures apart.
 *
 * **Gotchas**
 *
 * There is no bound but the handler's own: look at `envelope.attempt`. An
 * at-most-once handler does not run again: its message goes to the dead
 * letters.
 *
 * @category verdicts
 * @since 0.1.0
 */
export const retryAfter = (delay: Duration.Input): Effect.Effect<never> =>
  Effect.suspend(() => Effect.die(new RetryAfter(Duration.fromInputUnsafe(delay))))

/**
 * Runs the consumer for as long as the layer lives.
 *
 * **Details**
 *
 * Building the layer declares the topic, registers the group and joins it: what
 * is wrong with the names, the transport or the composition fails the build.
 * When the layer is released the consumer stops claiming, lets running handlers
 * end within `drainTimeout`, and gives its partitions back.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: <A, R>(self: Consumer<A, never, R>) => Layer.Layer<never, ConsumeError, R> = engine.layer

/**
 * What a consumer is doing.
 *
 * - `starting`: joining its group, or waiting to be started anew.
 * - `running`, `paused`: a member of its group, with `partitions`.
 * - `draining`: it claims nothing more, and lets running handlers end.
 * - `failed`: it does nothing more.
 *
 * @category models
 * @since 0.1.0
 */
export interface Status {
  readonly state: "starting" | "running" | "paused" | "draining" | "failed"
  readonly partitions: ReadonlyArray<number>
  /** Handlers that are running. */
  readonly inFlight: number
}

/**
 * A message that others wait for: those of its key, or the whole partition.
 *
 * - `running`: its handler runs, or waits for its turn to.
 * - `queued`: in memory, with no handler yet.
 * - `retrying`: waits for its retry, until `dueAt`, under the lease.
 * - `parked`: kept aside in the store, until `dueAt`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Obstacle {
  readonly partition: number
  readonly offset: number
  readonly key: string | undefined
  readonly state: "running" | "queued" | "retrying" | "parked"
  /** In milliseconds since the epoch, of a retry. */
  readonly dueAt: number | undefined
  /** How many messages of its key are known to wait for it, in memory or kept aside. */
  readonly waiting: number
  /**
   * Whether it is the oldest claimed message of its partition that is not
   * settled. Later ones of other keys are handled, but the stored progress, and
   * with it what a crash repeats and what retention keeps, cannot pass it.
   */
  readonly holdsPartition: boolean
  /** Not known of one that is parked: it is in the store. */
  readonly id: string | undefined
  /** Not known of one that is parked. */
  readonly attempt: number | undefined
}

/**
 * A consumer that was started.
 *
 * @category models
 * @since 0.1.0
 */
export interface Running {
  readonly status: Effect.Effect<Status>
  /** The status now, and whenever its state or its partitions change. */
  readonly changes: Stream.Stream<Status>
  /**
   * Starts no more handlers, and keeps the partitions. Handlers that run may
   * end; messages that were claimed are kept in memory.
   */
  readonly pause: Effect.Effect<void>
  readonly resume: Effect.Effect<void>
  /** What holds its keys and its partitions back, by partition and offset: looked up when asked. */
  readonly obstacles: Effect.Effect<ReadonlyArray<Obstacle>>
  /** Waits for the consumer to fail, once it is not to be started anew. */
  readonly failure: Effect.Effect<never, ConsumeError>
}

/**
 * Starts the consumer, and returns once its group is joined. It runs until the
 * scope closes, and drains then.
 *
 * **When to use**
 *
 * To see what it is doing, or to pause it. `layer` and `run` are made of it.
 *
 * @category running
 * @since 0.1.0
 */
export const start: <A, R>(self: Consumer<A, never, R>) => Effect.Effect<Running, ConsumeError, R | Scope> =
  engine.start

/**
 * Runs the consumer until it is interrupted, or fails: with a transport error
 * that repeating cannot mend, or because of a `stop`.
 *
 * @category running
 * @since 0.1.0
 */
export const run: <A, R>(self: Consumer<A, never, R>) => Effect.Effect<never, ConsumeError, R> = engine.run
