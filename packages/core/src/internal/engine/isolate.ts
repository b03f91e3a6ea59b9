/** Handles a batch as a whole where that succeeds, and finds the messages at fault where it does not (rule 17). */
import * as Effect from "effect/Effect"
import type { Item, LaneOf } from "./keyedQueue.ts"

/** What became of a message that was handled alone: `again` in this process, `parked` for later. */
export type Alone = "settled" | "again" | "parked"

const none: ReadonlyArray<Item> = []

/**
 * Halves a batch that fails, so that a poison message ends up alone in few steps
 * and the innocent ones are settled. Returns the messages that are to be tried
 * again: those that wait for a retry, and later ones of their keys (invariant
 * 11).
 */
export const isolate = <E, R>(
  batch: ReadonlyArray<Item>,
  /** Whether the messages were settled, all of them. */
  together: (items: ReadonlyArray<Item>) => Effect.Effect<boolean, E, R>,
  alone: (item: Item) => Effect.Effect<Alone, E, R>,
  laneOf: LaneOf
): Effect.Effect<ReadonlyArray<Item>, E, R> => {
  const [only] = batch
  if (batch.length === 1) return Effect.map(alone(only!), (end) => (end === "again" ? batch : none))
  const deferred: Array<Item> = []
  const blocked = new Set<string | number>()

  const unblocked = (items: ReadonlyArray<Item>): ReadonlyArray<Item> =>
    blocked.size === 0
      ? items
      : items.filter((item) => {
          const free = !blocked.has(laneOf(item))
          if (!free) deferred.push(item)
          return free
        })

  const run = (all: ReadonlyArray<Item>): Effect.Effect<void, E, R> =>
    Effect.suspend(() => {
      const items = unblocked(all)
      const [first] = items
      if (first === undefined) return Effect.void
      if (items.length === 1) {
        return Effect.map(alone(first), (end) => {
          if (end === "again") deferred.push(first)
          if (end !== "settled") blocked.add(laneOf(first))
        })
      }
      return Effect.flatMap(together(items), (settled) => {
        if (settled) return Effect.void
        const middle = items.length >> 1
        return Effect.andThen(run(items.slice(0, middle)), run(items.slice(middle)))
      })
    })

  return Effect.map(run(batch), () => deferred)
}
