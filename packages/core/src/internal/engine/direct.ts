/**
 * Settling outside of the handler: after it (at-least-once), or before it
 * (at-most-once, where the partition has stored the progress already).
 */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { type End, persist } from "./context.ts"
import { failureOf } from "./failures.ts"
import { decode, runHandler } from "./handler.ts"
import { type Alone, isolate } from "./isolate.ts"
import type { Item } from "./keyedQueue.ts"
import {
  beginAttempt,
  deadLetterOf,
  type Ending,
  endCounted,
  failed,
  releasedOnInterrupt,
  type Served,
  tellEnding
} from "./settle.ts"

const settled: Effect.Effect<Alone> = Effect.succeed("settled")

/** Handles messages of a partition. Returns those that are to be tried again. */
export const handleDirect = (
  served: Served
): ((batch: ReadonlyArray<Item>) => Effect.Effect<ReadonlyArray<Item>, End, any>) => {
  const { assignment, context, progress, redeliver } = served
  const atMostOnce = context.consumer.topic.guarantee === "at-most-once"

  const run = (items: ReadonlyArray<Item>, payloads: ReadonlyArray<unknown>) =>
    Effect.exit(runHandler(context, items, payloads, assignment.epoch))

  const handled = (item: Item): Effect.Effect<Alone, End, any> => {
    // What is told of in the store: others have no more to do than this.
    if (item.parked || item.counted) return settle(item, undefined)
    progress.settle(item.record.offset)
    context.observer.tellOf("Handled", item, assignment.epoch)
    return settled
  }

  /** It is over for the message, for now or for good. */
  const settle = Effect.fnUntraced(function* (
    item: Item,
    ending: Ending | undefined
  ): Effect.fn.Return<Alone, End, any> {
    if (ending?._tag === "Park") {
      yield* persist(redeliver!.park(item, ending.dueAt))
      yield* redeliver!.follow(item, ending.dueAt)
      yield* tellEnding(served, item, ending)
      return "parked"
    }
    const letters = ending?._tag === "DeadLetter" ? [yield* deadLetterOf(served, item, ending)] : []
    if (item.parked) {
      // In one step: a redrive in between would find the letter, and its message still kept aside.
      yield* persist(redeliver!.settle([item], letters))
      redeliver!.parking.settle(item.record.offset)
    } else {
      // Stored before the message is settled: a crash in between repeats it, and loses nothing (invariant 4).
      if (letters.length > 0) yield* persist(assignment.deadLetter(letters))
      progress.settle(item.record.offset)
      yield* endCounted(served, item)
    }
    if (ending !== undefined) yield* tellEnding(served, item, ending)
    else context.observer.tellOf("Handled", item, assignment.epoch)
    return "settled"
  })

  const settleFailed = Effect.fnUntraced(function* (
    item: Item,
    cause: Cause.Cause<unknown>
  ): Effect.fn.Return<Alone, End, any> {
    const ending = yield* failed(served, item, cause)
    return ending === undefined ? "again" : yield* settle(item, ending)
  })

  const attempt = Effect.fnUntraced(function* (item: Item): Effect.fn.Return<Alone, End, any> {
    const ending = item.counted ? yield* beginAttempt(served, item) : undefined
    if (ending !== undefined) return yield* settle(item, ending)
    const payload = yield* Effect.exit(decode(context, item))
    if (Exit.isFailure(payload)) {
      return yield* settle(item, { _tag: "DeadLetter", failure: failureOf(payload.cause), attempts: item.attempt - 1 })
    }
    const exit = yield* run([item], [payload.value])
    return Exit.isSuccess(exit) ? yield* handled(item) : yield* settleFailed(item, exit.cause)
  })

  const alone = (item: Item) => attempt(item).pipe(releasedOnInterrupt(served, item))

  const together = Effect.fnUntraced(function* (items: ReadonlyArray<Item>): Effect.fn.Return<boolean, End, any> {
    const decoded: Array<Item> = []
    const payloads: Array<unknown> = []
    for (const item of items) {
      const payload = yield* Effect.exit(decode(context, item))
      if (Exit.isFailure(payload)) continue
      decoded.push(item)
      payloads.push(payload.value)
    }
    // What does not decode is found alone.
    if (decoded.length < items.length) return false
    const exit = yield* run(decoded, payloads)
    if (Exit.isSuccess(exit)) {
      for (const item of items) yield* handled(item)
      return true
    }
    // Invariant 3: the handler has started for each of them, and does not start again.
    if (atMostOnce) for (const item of items) yield* settleFailed(item, exit.cause)
    return atMostOnce
  })

  return (batch) => isolate(batch, together, alone, served.laneOf)
}
