/** What the ways to settle a message have in common: attempts, decisions, dead letters. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { DeadLetter, Failure } from "../../DeadLetters.ts"
import type { Assignment } from "../../Transport.ts"
import type { TransportError } from "../../TransportError.ts"
import { type Context, type End, maxDelay, persist, StopSignal } from "./context.ts"
import { decide, failureOf, failureTagOf } from "./failures.ts"
import { Crashed } from "./handler.ts"
import type { Item, LaneOf } from "./keyedQueue.ts"
import { ofItem } from "./observer.ts"
import type { Progress } from "./progress.ts"
import type { Redeliver } from "./redeliver.ts"

/** A partition being served. */
export interface Served {
  readonly context: Context
  readonly assignment: Assignment
  readonly progress: Progress
  /** Where the transport can keep messages aside. */
  readonly redeliver: Redeliver | undefined
  readonly laneOf: LaneOf
}

/** Of so many attempts: those in which the handler saw it. */
interface DeadLettered {
  readonly _tag: "DeadLetter"
  readonly failure: Failure
  readonly attempts: number
}

/** How an item ended, apart from being handled. */
export type Ending =
  | DeadLettered
  | { readonly _tag: "Discard" }
  /** Not for good: kept aside until it is due. */
  | { readonly _tag: "Park"; readonly dueAt: number }

/** Stores how many attempts of a message have begun, the current one included, and how many of them have failed. */
const count = ({ assignment }: Served, { attempt, failures, record }: Item): Effect.Effect<void, TransportError> =>
  assignment.count(record.offset, { claims: attempt, failures })

/** Takes the current attempt back: it was no failure, and no crash. */
const uncount = ({ assignment }: Served, { attempt, failures, record }: Item): Effect.Effect<void, TransportError> =>
  assignment.count(record.offset, { claims: attempt - 1, failures })

/**
 * Invariant 13: an attempt of a message that failed before, or may have killed
 * its process, is counted in the store before its handler runs. Returns the
 * crash that ends it instead, when it has had enough of them.
 */
export const beginAttempt = Effect.fnUntraced(function* (
  served: Served,
  item: Item
): Effect.fn.Return<Ending | undefined, TransportError> {
  if (!item.counted) return undefined
  yield* persist(count(served, item))
  const crashes = item.attempt - 1 - item.failures
  // Other messages were in flight at the first one, perhaps: that alone never condemns.
  if (crashes <= served.context.consumer.settings.maxCrashes) return undefined
  item.attempt--
  return { _tag: "DeadLetter", failure: failureOf(Cause.die(new Crashed(crashes))), attempts: item.attempt }
})

/**
 * Invariant 13: a counted attempt that ended well is no crash, whatever becomes
 * of the process before the progress reaches its message.
 */
export const endCounted = (served: Served, item: Item): Effect.Effect<void, TransportError> => {
  const { assignment, progress } = served
  const { offset } = item.record
  if (!item.counted || offset <= progress.stored) return Effect.void
  const { reached } = progress
  return reached < offset
    ? persist(uncount(served, item))
    : Effect.map(persist(assignment.settle(reached)), () => {
        progress.stored = Math.max(progress.stored, reached)
      })
}

/** Whether it is stored, or about to be, that the message is settled: nothing is counted any more then. */
const isSettled = ({ progress, redeliver }: Served, { parked, record: { offset } }: Item): boolean =>
  parked ? !redeliver!.parking.has(offset) : offset <= progress.reached

/**
 * Invariant 13: a shutdown that interrupts a counted attempt, from before it is
 * counted to after it has ended, takes the count back, unless it has failed.
 */
export const releasedOnInterrupt =
  (served: Served, item: Item) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => {
    if (!item.counted) return effect
    const { failures } = item
    return Effect.onInterrupt(effect, () =>
      isSettled(served, item)
        ? Effect.void
        : Effect.ignore(item.failures > failures ? count(served, item) : uncount(served, item))
    )
  }

/**
 * A failed attempt: counted, then decided. Returns how the message ends, or
 * undefined when it is to be tried again, at `item.notBefore`.
 */
export const failed = Effect.fnUntraced(function* (
  served: Served,
  item: Item,
  cause: Cause.Cause<unknown>
): Effect.fn.Return<Ending | undefined, End, any> {
  const { assignment, context, progress, redeliver } = served
  const { consumer } = context
  item.failures++
  const message = ofItem(item, assignment.epoch)
  context.observer.tell({ _tag: "Failed", failure: failureTagOf(cause), ...message })
  // Invariant 3: an at-most-once handler has started; not even a defect starts it again.
  const defectRetry = consumer.topic.guarantee === "at-most-once" ? undefined : consumer.settings.defectRetry
  const decision = yield* decide(consumer.rules, defectRetry, item, cause)
  switch (decision._tag) {
    case "Retry": {
      // The first failure of a message that was not counted singly is its first claim as well.
      yield* persist(count(served, item))
      item.counted = true
      // Whole milliseconds: a sum of fractions may be a rounding error ahead of every tick of the clock.
      const dueAt = Math.ceil((yield* Clock.currentTimeMillis) + Math.min(decision.delay, maxDelay))
      if (redeliver !== undefined && decision.delay > context.redeliverAfter) return { _tag: "Park", dueAt } as const
      context.observer.tell({ _tag: "Retrying", delay: decision.delay, ...message })
      item.attempt++
      item.notBefore = dueAt
      return undefined
    }
    case "Stop":
      // Invariant 13: the next consumer goes on counting. At-most-once the message is settled, and does not come again.
      if (consumer.topic.guarantee !== "at-most-once" && (item.parked || item.record.offset > progress.stored))
        yield* persist(count(served, item))
      context.observer.tell({ _tag: "Stopped", failure: failureTagOf(cause), ...message })
      return yield* Effect.fail(new StopSignal(item.record.id, decision.cause))
    case "DeadLetter":
      return { ...decision, attempts: item.attempt }
    case "Discard":
      return decision
  }
})

export const deadLetterOf = (
  { context }: Served,
  item: Item,
  { attempts, failure }: DeadLettered
): Effect.Effect<DeadLetter> =>
  Effect.map(Clock.currentTimeMillis, (time) => {
    const { attempts: _, ...record } = item.record
    return {
      topic: context.consumer.topic.name,
      group: context.consumer.settings.group,
      record,
      failure,
      attempts,
      time
    }
  })

/** It is stored how the message ended. Ids and tags only: messages of errors may quote the payload. */
export const tellEnding = ({ assignment, context }: Served, item: Item, ending: Ending): Effect.Effect<void> => {
  const message = ofItem(item, assignment.epoch)
  switch (ending._tag) {
    case "Park":
      context.observer.tell({ _tag: "Parked", dueAt: ending.dueAt, ...message })
      return Effect.void
    case "Discard":
      context.observer.tell({ _tag: "Discarded", ...message })
      return Effect.void
    case "DeadLetter":
      context.observer.tell({ _tag: "DeadLettered", failure: ending.failure.tag, ...message })
      return Effect.logWarning(`dead-lettered a message: ${ending.failure.tag}`).pipe(
        Effect.annotateLogs({
          topic: context.consumer.topic.name,
          group: context.consumer.settings.group,
          id: item.record.id,
          attempts: ending.attempts
        })
      )
  }
}
