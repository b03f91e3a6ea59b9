import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { DeadLetter, DeadLetters } from "../../DeadLetters.ts"
import { MemoryStore } from "../../MemoryStore.ts"

const compare = (a: DeadLetter, b: DeadLetter): number =>
  a.topic !== b.topic
    ? a.topic < b.topic
      ? -1
      : 1
    : a.group !== b.group
      ? a.group < b.group
        ? -1
        : 1
      : a.record.partition - b.record.partition || a.record.offset - b.record.offset

export const make: Effect.Effect<DeadLetters["Service"], never, MemoryStore> = Effect.map(MemoryStore, (store) => ({
  list: (filter) =>
    Stream.suspend(() =>
      Stream.fromIterable(
        Array.from(store.groups.values())
          .filter((group) => filter?.topic === undefined || group.topic === filter.topic)
          .filter((group) => filter?.group === undefined || group.name === filter.group)
          .flatMap((group) => Array.from(group.deadLetters.values()))
          .sort(compare)
      )
    )
}))
