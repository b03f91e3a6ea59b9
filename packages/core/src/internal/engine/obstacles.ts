/** What a partition and its keys wait for, found when somebody asks. */
import type { Obstacle } from "../../Consumer.ts"
import type { First, KeyedQueue } from "./keyedQueue.ts"
import type { Progress } from "./progress.ts"
import type { Redeliver } from "./redeliver.ts"

const stateOf = ({ inFlight, item }: First, now: number): Obstacle["state"] =>
  inFlight ? "running" : item.notBefore > now ? "retrying" : "queued"

/** Messages that others of their keys wait for, and the one that the progress of the partition cannot pass. */
export const obstaclesOf =
  (partition: number, queue: KeyedQueue, progress: Progress, redeliver: Redeliver | undefined) =>
  (now: number): ReadonlyArray<Obstacle> => {
    const { head } = progress
    const inMemory = queue.firsts.map((first): Obstacle => {
      const { attempt, notBefore, record } = first.item
      const { id, key, offset } = record
      const state = stateOf(first, now)
      const dueAt = state === "retrying" ? notBefore : undefined
      const holdsPartition = offset === head
      return { partition, offset, id, key, attempt, state, dueAt, waiting: first.waiting, holdsPartition }
    })
    const keptAside = (redeliver?.parking.firsts ?? []).map(
      ({ record: { dueAt, key, offset }, waiting }): Obstacle => ({
        partition,
        offset,
        id: undefined,
        key,
        attempt: undefined,
        state: "parked",
        dueAt,
        waiting,
        holdsPartition: false
      })
    )
    return [...inMemory, ...keptAside]
      .filter(({ holdsPartition, waiting }) => holdsPartition || waiting > 0)
      .sort((a, b) => a.offset - b.offset)
  }
