/** Runs a consumer: joins its group, and serves the partitions that it is given. */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { ConsumeError, type ConsumeErrorReason, InvalidConsumer, Stopped, TransportFailed } from "../../ConsumeError.ts"
import type { Consumer } from "../../Consumer.ts"
import * as Guarantee from "../../Guarantee.ts"
import * as Topic from "../../Topic.ts"
import type { Assignment } from "../../Transport.ts"
import { TransportError } from "../../TransportError.ts"
import { invalidName, invalidPartitions } from "../names.ts"
import { BatchSize, type Context, type End, persist } from "./context.ts"
import { Observer } from "./observer.ts"
import { servePartition } from "./partition.ts"

const errorOf =
  ({ settings, topic }: Consumer<any, any, any>) =>
  (reason: ConsumeErrorReason) =>
    new ConsumeError({ topic: topic.name, group: settings.group, reason })

const invalid = ({ rules, settings, topic }: Consumer<any, any, any>): string | undefined => {
  for (const [name, value] of Object.entries({
    concurrency: settings.concurrency,
    batchSize: settings.batchSize,
    prefetch: settings.prefetch,
    maxCrashes: settings.maxCrashes
  })) {
    if (!Number.isInteger(value) || value < 1) return `${name} is ${value}; it is a whole number of at least 1`
  }
  if (!Duration.isPositive(settings.handlerTimeout))
    return "handlerTimeout is not positive, so that no handler could end"
  if (topic.guarantee === "at-most-once" && rules.some((rule) => rule._tag === "Retry")) {
    return "an at-most-once handler starts once and cannot be retried; declare the topic at-least-once, or drop the retry"
  }
  return invalidName("topic", topic.name) ?? invalidPartitions(topic.partitions) ?? invalidName("group", settings.group)
}

/**
 * Registers the group and starts serving. The returned effect fails once the
 * consumer cannot go on; closing the scope drains it.
 */
const start = Effect.fnUntraced(function* (
  consumer: Consumer<any, never, any>
): Effect.fn.Return<Effect.Effect<never, ConsumeError>, ConsumeError, Scope.Scope> {
  const error = errorOf(consumer)
  const detail = invalid(consumer)
  if (detail !== undefined) return yield* error(new InvalidConsumer({ detail }))
  const delivery = yield* Guarantee.required(consumer.topic) as Effect.Effect<Guarantee.Delivery<Guarantee.Name>>
  const context: Context = {
    consumer,
    delivery,
    permits: Semaphore.makeUnsafe(consumer.settings.concurrency),
    batch: new BatchSize(consumer.settings.batchSize),
    observer: new Observer(consumer.topic.name, consumer.settings.group, yield* Effect.context<never>()),
    redeliverAfter: Duration.toMillis(consumer.settings.redeliverAfter)
  }
  const declaration = Topic.declaration(consumer.topic)
  const subscription = yield* Effect.mapError(
    delivery.transport.subscribe({
      topic: declaration,
      group: consumer.settings.group,
      startFrom: consumer.settings.startFrom
    }),
    (cause) => error(new TransportFailed({ cause }))
  )
  const draining = Deferred.makeUnsafe<void>()
  const failed = Deferred.makeUnsafe<never, ConsumeError>()
  const partitions = yield* FiberSet.make<void, never>()

  /** A partition that was lost to another member is no failure of the consumer. */
  const ended = (cause: Cause.Cause<End>, assignment?: Assignment): Effect.Effect<unknown> => {
    const found = Cause.findErrorOption(cause)
    if (found._tag === "None") return Deferred.failCause(failed, cause as Cause.Cause<never>)
    const end = found.value
    if (end._tag === "StopSignal") {
      return Deferred.fail(failed, error(new Stopped({ id: end.id, cause: end.cause })))
    }
    if (!(end instanceof TransportError)) return Deferred.die(failed, end)
    // What may be mended by trying again is: the partition is given back, and comes again.
    if (end.reason._tag === "Fenced" || end.isRetryable) {
      if (assignment !== undefined) {
        const { epoch, partition } = assignment
        context.observer.tell({ _tag: "LeaseLost", partition, epoch })
      }
      return Effect.logDebug(`lost a partition: ${end.message}`)
    }
    return Deferred.fail(failed, error(new TransportFailed({ cause: end })))
  }
  const accept = Effect.gen(function* () {
    const assignment = yield* persist(subscription.next)
    yield* FiberSet.run(
      partitions,
      servePartition(context, assignment, Deferred.await(draining)).pipe(
        Effect.catchCause((cause) => (Cause.hasInterruptsOnly(cause) ? Effect.void : ended(cause, assignment))),
        Effect.asVoid
      ) as Effect.Effect<void>
    )
  }).pipe(
    Effect.forever,
    Effect.catchCause((cause) => (Cause.hasInterruptsOnly(cause) ? Effect.void : ended(cause)))
  )
  yield* Effect.addFinalizer(() =>
    Effect.andThen(Deferred.succeed(draining, undefined), FiberSet.awaitEmpty(partitions))
  )
  yield* Effect.forkScoped(accept)
  return Deferred.await(failed)
})

export const run = <A, R>(consumer: Consumer<A, never, R>): Effect.Effect<never, ConsumeError, R> =>
  Effect.scoped(Effect.flatten(start(consumer))) as Effect.Effect<never, ConsumeError, R>

/** The consumer has a scope of its own: when it cannot go on, it stops as a whole and drains, as if its layer were released. */
export const layer = <A, R>(consumer: Consumer<A, never, R>): Layer.Layer<never, ConsumeError, R> =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      const scope = yield* Scope.fork(yield* Effect.scope)
      const failure = yield* Scope.provide(start(consumer), scope)
      yield* Effect.forkScoped(
        Effect.catchCause(failure, (cause) =>
          Effect.uninterruptible(
            Effect.andThen(Effect.logError("a consumer stopped", cause), Scope.close(scope, Exit.void))
          )
        )
      )
    })
  ) as Layer.Layer<never, ConsumeError, R>
