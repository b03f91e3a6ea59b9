/**
 * Settling outside of the handler: after it (at-least-once), or before it
 * (at-most-once, where the partition has stored the progress already).
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { type End, persist } from "./context.ts"
import { failureOf } from "./failures.ts"
import { decode, runHandler } from "./handler.ts"
import type { Item } from "./keyedQueue.ts"
import { ofItem } from "./observer.ts"
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

/** Handles one message. Returns it when it is to be tried again. */
export const handleDirect = Effect.fnUntraced(function* (
  served: Served,
  items: ReadonlyArray<Item>
): Effect.fn.Return<ReadonlyArray<Item>, End, any> {
  const item = items[0]!
  let ending: Ending | undefined = yield* beginAttempt(served, item)
  if (ending === undefined) {
    const payload = yield* Effect.exit(decode(served.context, item))
    if (Exit.isFailure(payload)) {
      ending = { _tag: "DeadLetter", failure: failureOf(payload.cause) }
    } else {
      const exit = yield* Effect.exit(runHandler(served.context, item, payload.value, served.assignment.epoch)).pipe(
        releasedOnInterrupt(served, item)
      )
      if (Exit.isFailure(exit)) {
        ending = yield* failed(served, item, exit.cause)
        if (ending === undefined) return items
      }
    }
  }
  if (ending?._tag === "Park") {
    const redeliver = served.redeliver!
    yield* persist(redeliver.park(item, ending.dueAt))
    yield* redeliver.follow(item, ending.dueAt)
    yield* tellEnding(served, item, ending)
    return []
  }
  if (ending !== undefined) {
    if (ending._tag === "DeadLetter") {
      // Stored before the message is settled: a crash in between repeats it, and loses nothing (invariant 4).
      yield* persist(served.assignment.deadLetter([yield* deadLetterOf(served, item, ending.failure)]))
    }
    yield* tellEnding(served, item, ending)
  }
  if (item.parked) {
    const redeliver = served.redeliver!
    yield* persist(redeliver.settle([item]))
    redeliver.parking.settle(item.record.offset)
  } else {
    served.progress.settle(item.record.offset)
    yield* endCounted(served, item)
  }
  if (ending === undefined) {
    served.context.observer.tell({ _tag: "Handled", ...ofItem(item, served.assignment.epoch) })
  }
  return []
})
