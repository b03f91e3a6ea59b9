import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { DeadLetter, DeadLetters, Filter } from "../../DeadLetters.ts"
import type { MemoryStore } from "../../MemoryStore.ts"
import { type Site, site } from "./log.ts"
import { type Group, groupKey, placeOf } from "./store.ts"

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

const matches =
  ({ before, group, id, tag, topic }: Filter) =>
  (letter: DeadLetter): boolean =>
    (topic === undefined || letter.topic === topic) &&
    (group === undefined || letter.group === group) &&
    (id === undefined || letter.record.id === id) &&
    (tag === undefined || letter.failure.tag === tag) &&
    (before === undefined || letter.time < before)

export const at = ({ access, store }: Site): DeadLetters["Service"] => {
  const find = (filter: Filter = {}): Array<{ readonly group: Group; readonly letter: DeadLetter }> =>
    Array.from(store.groups.values()).flatMap((group) =>
      Array.from(group.deadLetters.values())
        .filter(matches(filter))
        .map((letter) => ({ group, letter }))
    )
  const change = (name: string, filter: Filter = {}, body: (found: ReturnType<typeof find>) => number) =>
    access(name, filter.topic ?? "", () => body(find(filter)), {
      letters: () => find(filter).map(({ letter }) => letter)
    })
  return {
    list: (filter) =>
      Stream.fromIterableEffect(
        access("list", filter?.topic ?? "", () =>
          find(filter)
            .map(({ letter }) => letter)
            .sort(compare)
        )
      ),
    get: (place) =>
      access("get", place.topic, () =>
        Option.fromUndefinedOr(store.groups.get(groupKey(place.topic, place.group))?.deadLetters.get(placeOf(place)))
      ),
    redrive: (filter) =>
      change("redrive", filter, (found) => {
        for (const { group, letter } of found) {
          const { id, offset, partition } = letter.record
          const cursor = group.cursors[partition]!
          group.deadLetters.delete(placeOf(letter.record))
          if (group.inbox.get(id) === "dead") group.inbox.set(id, "pending")
          cursor.attempts.delete(offset)
          cursor.parked.set(offset, {
            offset,
            key: undefined,
            dueAt: undefined,
            record: letter.record,
            storedAt: store.now()
          })
        }
        for (const { group } of found) group.redriven.notify()
        return found.length
      }),
    purge: (filter) =>
      change("purge", filter, (found) => {
        for (const { group, letter } of found) group.deadLetters.delete(placeOf(letter.record))
        return found.length
      })
  }
}

export const make: Effect.Effect<DeadLetters["Service"], never, MemoryStore> = Effect.map(site, at)
