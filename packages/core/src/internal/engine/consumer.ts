/** Runs a consumer: checks it, joins its group, and starts it anew where it says so. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import { CurrentCodec } from "../../Codec.ts"
import { type ConsumeError, InvalidConsumer } from "../../ConsumeError.ts"
import type { Consumer, Running, Status } from "../../Consumer.ts"
import * as Guarantee from "../../Guarantee.ts"
import { Interference } from "../../Interference.ts"
import { CurrentCollector, notRunning } from "../explain/collector.ts"
import { invalidName, invalidPartitions, invalidVersions } from "../names.ts"
import { BatchSize, type Context } from "./context.ts"
import { Lifecycle } from "./lifecycle.ts"
import { Observer } from "./observer.ts"
import { errorOf, serve } from "./serve.ts"

const invalid = ({ rules, settings, topic }: Consumer<any, any, any>): string | undefined => {
  for (const [name, value] of Object.entries({
    concurrency: settings.concurrency,
    batchSize: settings.batchSize,
    prefetch: settings.prefetch,
    ...(settings.batch === undefined ? {} : { maxSize: settings.batch.maxSize }),
    maxCrashes: settings.maxCrashes
  })) {
    if (!Number.isInteger(value) || value < 1) return `${name} is ${value}; it is a whole number of at least 1`
  }
  if (!Duration.isPositive(settings.handlerTimeout))
    return "handlerTimeout is not positive, so that no handler could end"
  if (topic.guarantee === "at-most-once" && rules.some((rule) => rule._tag === "Retry")) {
    return "an at-most-once handler starts once and cannot be retried; declare the topic at-least-once, or drop the retry"
  }
  return (
    invalidName("topic", topic.name) ??
    invalidPartitions(topic.partitions) ??
    invalidVersions(topic.version, topic.older) ??
    invalidName("group", settings.group)
  )
}

/** Returns once the group is joined. The consumer runs until the scope closes, and drains then. */
export const start = Effect.fnUntraced(function* <A, R>(
  consumer: Consumer<A, never, R>
): Effect.fn.Return<Running, ConsumeError, R | Scope.Scope> {
  const detail = invalid(consumer)
  if (detail !== undefined) return yield* errorOf(consumer)(new InvalidConsumer({ detail }))
  const { settings, topic } = consumer
  const delivery = yield* Guarantee.required(topic) as Effect.Effect<Guarantee.Delivery<Guarantee.Name>>
  const collector = yield* CurrentCollector
  if (collector !== undefined) {
    collector.consumers.push({ consumer, delivery, context: yield* Effect.context<never>() })
    return notRunning
  }
  const lifecycle = yield* Lifecycle.make
  const around = yield* Interference
  const observer = new Observer(topic.name, settings.group, yield* Effect.context<never>())
  const context: Context = {
    consumer,
    delivery,
    codec: yield* CurrentCodec,
    clock: yield* Clock.Clock,
    permits: Semaphore.makeUnsafe(settings.concurrency),
    batch: new BatchSize(settings.batchSize),
    observer,
    lifecycle,
    obstacles: new Set(),
    around,
    redeliverAfter: Duration.toMillis(settings.redeliverAfter)
  }
  const joined = Deferred.makeUnsafe<void, ConsumeError>()
  const outcome = Deferred.makeUnsafe<never, ConsumeError>()
  const serving = serve(
    context,
    Effect.andThen(
      Effect.suspend(() => lifecycle.is(lifecycle.gate.isOpen() ? "running" : "paused")),
      Deferred.succeed(joined, undefined)
    )
  )
  const { restart } = settings
  const restarted =
    restart === undefined
      ? serving
      : serving.pipe(
          Effect.tapError(() => lifecycle.is("starting")),
          Effect.retry({
            schedule: restart,
            // What is wrong from the start is the app's to know.
            while: ({ reason }) => reason._tag === "TransportFailed" && Deferred.isDoneUnsafe(joined)
          })
        )
  yield* (around === undefined ? restarted : around.consumer(consumer, restarted)).pipe(
    Effect.onError((cause) =>
      Cause.hasInterruptsOnly(cause)
        ? Effect.void
        : lifecycle
            .is("failed")
            .pipe(Effect.andThen(Deferred.failCause(joined, cause)), Effect.andThen(Deferred.failCause(outcome, cause)))
    ),
    Effect.ignoreCause,
    Effect.forkScoped
  )
  yield* Deferred.await(joined)
  const known = (status: Omit<Status, "inFlight">): Status => ({ ...status, inFlight: observer.inFlight })
  return {
    status: Effect.map(lifecycle.status, known),
    changes: Stream.map(lifecycle.changes, known),
    pause: lifecycle.pause(true),
    resume: lifecycle.pause(false),
    obstacles: Effect.map(Clock.currentTimeMillis, (now) =>
      Array.from(context.obstacles, (ofPartition) => ofPartition(now))
        .flat()
        .sort((a, b) => a.partition - b.partition)
    ),
    failure: Deferred.await(outcome)
  }
})

export const run = <A, R>(consumer: Consumer<A, never, R>): Effect.Effect<never, ConsumeError, R> =>
  Effect.scoped(Effect.flatMap(start(consumer), ({ failure }) => failure)) as Effect.Effect<never, ConsumeError, R>

export const layer = <A, R>(consumer: Consumer<A, never, R>): Layer.Layer<never, ConsumeError, R> =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      const { failure } = yield* start(consumer)
      yield* Effect.forkScoped(Effect.catchCause(failure, (cause) => Effect.logError("a consumer stopped", cause)))
    })
  ) as Layer.Layer<never, ConsumeError, R>
