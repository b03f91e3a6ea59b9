/** Records that are stored and not readable yet, and the fiber that makes them so. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { DelayedDelivery, Due } from "../../DelayedDelivery.ts"
import type { MemoryStore } from "../../MemoryStore.ts"
import { append, type Site, site, storeWith } from "./log.ts"
import { commit, type Delayed, makeTx, type Store } from "./store.ts"

/** Sorted by due time, then by publish order: behind all that are due no later. */
const insert = ({ delayed }: Store, entry: Delayed): void => {
  const { waiting } = delayed
  let low = 0
  let high = waiting.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (waiting[middle]!.dueAt <= entry.dueAt) low = middle + 1
    else high = middle
  }
  waiting.splice(low, 0, entry)
}

/** Appends what is due to its log. Returns when the next one is. */
const deliverDue = (store: Store, now: number): number => {
  const { waiting } = store.delayed
  const due = waiting.findIndex(({ dueAt }) => dueAt > now)
  const tx = makeTx()
  for (const { record, topic } of waiting.splice(0, due === -1 ? waiting.length : due)) {
    append(store, tx, topic, [record])
  }
  commit(tx)
  return waiting[0]?.dueAt ?? Infinity
}

const dueAt = (due: Due, now: number): number => (due._tag === "At" ? due.millis : now + due.millis)

export const at = (here: Site): Effect.Effect<DelayedDelivery["Service"], never, Scope.Scope> => {
  const { node, store } = here
  const { changed } = store.delayed
  const delivering = Effect.suspend(() => {
    const now = store.now()
    const seen = changed.version
    // What a dead node is asked for goes on when the node comes back.
    const nextAt = node.alive ? deliverDue(store, now) : now + 1000
    const added = changed.changed(seen)
    return nextAt === Infinity ? added : Effect.raceFirst(added, Effect.sleep(nextAt - now))
  }).pipe(Effect.forever({ disableYield: true }), Effect.forkScoped)
  return Effect.as(delivering, {
    store,
    publish: (topic, records, due) =>
      storeWith(here, topic, records, (tx) => {
        const now = store.now()
        for (const record of records) {
          tx.changes.push(() => insert(store, { topic: topic.name, record, dueAt: dueAt(due, now) }))
        }
        tx.changed.add(changed)
      })
  })
}

export const make: Effect.Effect<DelayedDelivery["Service"], never, MemoryStore | Scope.Scope> = Effect.flatMap(
  site,
  at
)
