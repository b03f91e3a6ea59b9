/** Membership of a group: serves the partitions that come, until it cannot go on. */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import { ConsumeError, type ConsumeErrorReason, Stopped, TransportFailed } from "../../ConsumeError.ts"
import type { Consumer } from "../../Consumer.ts"
import * as Topic from "../../Topic.ts"
import type { Assignment } from "../../Transport.ts"
import { TransportError } from "../../TransportError.ts"
import { type Context, type End, persist } from "./context.ts"
import { servePartition } from "./partition.ts"

export const errorOf =
  ({ settings, topic }: Consumer<any, any, any>) =>
  (reason: ConsumeErrorReason) =>
    new ConsumeError({ topic: topic.name, group: settings.group, reason })

/**
 * Registers the group, calls `joined`, and serves. Interrupted or failing, it
 * drains first.
 */
export const serve = (context: Context, joined: Effect.Effect<void>): Effect.Effect<never, ConsumeError> =>
  Effect.gen(function* () {
    const { consumer, delivery, lifecycle, observer } = context
    const error = errorOf(consumer)
    const subscription = yield* Effect.mapError(
      delivery.transport.subscribe({
        topic: Topic.declaration(consumer.topic),
        group: consumer.settings.group,
        startFrom: consumer.settings.startFrom
      }),
      (cause) => error(new TransportFailed({ cause }))
    )
    yield* joined
    const draining = Deferred.makeUnsafe<void>()
    const left = Deferred.makeUnsafe<void>()
    // Invariant 21: a partition that is released before its member has left would be given back to it.
    const mayRelease = Effect.suspend(() => (Deferred.isDoneUnsafe(draining) ? Deferred.await(left) : Effect.void))
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
      if (assignment !== undefined && (end.reason._tag === "Fenced" || end.isRetryable)) {
        const { epoch, partition } = assignment
        observer.tell({ _tag: "LeaseLost", partition, epoch })
        return Effect.logDebug(`lost a partition: ${end.message}`)
      }
      return Deferred.fail(failed, error(new TransportFailed({ cause: end })))
    }
    const accept = Effect.gen(function* () {
      const assignment = yield* persist(subscription.next)
      yield* FiberSet.run(
        partitions,
        Effect.andThen(
          lifecycle.holds(assignment.partition, true),
          servePartition(context, assignment, Deferred.await(draining), mayRelease)
        ).pipe(
          Effect.catchCause((cause) => (Cause.hasInterruptsOnly(cause) ? Effect.void : ended(cause, assignment))),
          Effect.ensuring(lifecycle.holds(assignment.partition, false)),
          Effect.asVoid
        ) as Effect.Effect<void>
      )
    }).pipe(
      Effect.forever({ disableYield: true }),
      Effect.catchCause((cause) => (Cause.hasInterruptsOnly(cause) ? Effect.void : ended(cause)))
    )
    yield* Effect.addFinalizer(() =>
      lifecycle
        .is("draining")
        .pipe(
          Effect.andThen(Deferred.succeed(draining, undefined)),
          Effect.andThen(subscription.leave),
          Effect.andThen(Deferred.succeed(left, undefined)),
          Effect.andThen(FiberSet.awaitEmpty(partitions))
        )
    )
    yield* Effect.forkScoped(accept)
    return yield* Deferred.await(failed)
  }).pipe(Effect.scoped)
