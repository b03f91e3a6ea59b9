/** Forgets what is older than its retention, whenever something new comes. As in PostgreSQL: POSTGRES.md, rules 20 and 22. */
import type { Group, Log, Store } from "./store.ts"

const groupsOf = (store: Store, topic: string): ReadonlyArray<Group> =>
  Array.from(store.groups.values()).filter((group) => group.topic === topic)

/** Nothing above the lowest cursor of any group. */
export const trimLog = (store: Store, topic: string, log: Log): void => {
  const { log: keep } = store.settings.retention
  if (keep === "forever") return
  const before = store.now() - keep
  for (const partition of log.partitions) {
    partition.trim(before, () =>
      groupsOf(store, topic)
        .map(({ cursors }) => cursors[partition.partition]!)
        .reduce((lowest, { claimed, settled }) => Math.min(lowest, claimed, settled), Infinity)
    )
  }
}

/**
 * Kept: what the group settled within its retention of the oldest message that
 * it has not settled, parked ones included; what a redrive has opened; and the
 * ids of dead letters, for as long as the group has any.
 */
export const trimInbox = (store: Store, group: Group): void => {
  const { inbox: keep } = store.settings.retention
  if (keep === "forever") return
  const now = store.now()
  if (now < group.inboxTrimAt) return
  group.inboxTrimAt = now + keep / 10
  const log = store.logs.get(group.topic)!
  let oldest = now
  for (const cursor of group.cursors) {
    oldest = Math.min(oldest, log.partitions[cursor.partition]!.storedAfter(cursor.settled))
    for (const { storedAt } of cursor.parked.values()) oldest = Math.min(oldest, storedAt)
  }
  for (const [id, settledAt] of group.settledAt) {
    if (settledAt >= oldest - keep) return
    const outcome = group.inbox.get(id)
    if (outcome === "handled" || outcome === "discarded" || (outcome === "dead" && group.deadLetters.size === 0)) {
      group.inbox.delete(id)
      group.settledAt.delete(id)
    }
  }
}
