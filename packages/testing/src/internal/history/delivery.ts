/** Invariants of delivery: 1, 2, 3, 4, 9 and 18. */
import type { EventOf, History, Violation } from "../../History.ts"
import { groupBy, isCommitted, isHandled, keyed, only, quote, redrivesOf, runsOf, violation } from "./facts.ts"

const message = ({ id, topic }: { readonly topic: string; readonly id: string }) => keyed(topic, id)
const groupOf = ({ group, topic }: { readonly topic: string; readonly group: string }) => keyed(topic, group)

/** What a group was seen to read. */
const readsOf = (history: History): ReadonlyArray<EventOf<"Start"> | EventOf<"DeadLetter">> => [
  ...only(history, "Start"),
  ...only(history, "DeadLetter")
]

export const noInvention = (history: History): ReadonlyArray<Violation> => {
  const violated = violation(1, "no invention")
  const published = new Set(only(history, "Publish").map(message))
  return readsOf(history)
    .filter((read) => !published.has(message(read)))
    .map((read) =>
      violated(`${quote(read.id)} came out of ${quote(read.topic)}, but nobody published it there`, [read])
    )
}

export const noAbortedRead = (history: History): ReadonlyArray<Violation> => {
  const violated = violation(2, "no aborted read")
  const runs = runsOf(history)
  const published = groupBy(only(history, "Publish"), message)
  const aborted = (publish: EventOf<"Publish">) =>
    publish.outcome === "fail" || (publish.run !== undefined && isCommitted(runs.get(publish.run)) === false)
  return readsOf(history).flatMap((read) => {
    const attempts = published.get(message(read)) ?? []
    return attempts.length > 0 && attempts.every(aborted)
      ? [
          violated(`${quote(read.id)} was delivered, though every publish of it failed or rolled back`, [
            ...attempts,
            read
          ])
        ]
      : []
  })
}

export const atMostOnce = (history: History): ReadonlyArray<Violation> => {
  const violated = violation(3, "at most once")
  const bound = new Set(
    only(history, "Register")
      .filter(({ guarantee }) => guarantee === "at-most-once")
      .map(groupOf)
  )
  const starts = groupBy(
    only(history, "Start").filter((start) => bound.has(groupOf(start))),
    ({ group, offset, partition, topic }) => keyed(topic, group, partition, offset)
  )
  const redrives = redrivesOf(history)
  return Array.from(starts.values())
    .filter((runs) => runs.length > 1 + redrives(runs[0]!).length)
    .map((runs) => violated(`the handler of ${quote(runs[0]!.id)} started ${runs.length} times`, runs))
}

export const noLoss = (history: History): ReadonlyArray<Violation> => {
  const violated = violation(4, "no loss")
  const runs = runsOf(history)
  const done = new Set([
    ...only(history, "DeadLetter").map((letter) => keyed(letter.topic, letter.group, letter.id)),
    ...Array.from(runs.values())
      .filter(isHandled)
      .map(({ start }) => keyed(start.topic, start.group, start.id))
  ])
  const acknowledged = only(history, "Publish").filter(
    ({ outcome, run }) => outcome === "ok" && (run === undefined || isCommitted(runs.get(run)) !== false)
  )
  return only(history, "Register").flatMap((registered) => {
    if (registered.guarantee === "at-most-once") return []
    const due = acknowledged.filter(
      ({ call, topic }) => topic === registered.topic && (registered.from === "earliest" || call > registered.seq)
    )
    const isDone = due.map(({ id }) => done.has(keyed(registered.topic, registered.group, id)))
    const first = isDone.indexOf(true)
    const last = isDone.lastIndexOf(true)
    const lost = new Map<string, Array<EventOf<"Publish">>>()
    due.forEach((publish, index) => {
      if (isDone[index]) return
      const part = first === -1 ? "everything" : index < first ? "a prefix" : index > last ? "a suffix" : "the middle"
      lost.set(part, [...(lost.get(part) ?? []), publish])
    })
    return Array.from(lost, ([part, events]) =>
      violated(
        `group ${quote(registered.group)} lost ${part} of ${quote(registered.topic)}: ` +
          `${events.length} of ${due.length} acknowledged, ${events
            .slice(0, 5)
            .map(({ id }) => quote(id))
            .join(", ")}`,
        [registered, ...events]
      )
    )
  })
}

export const noSkippedRecord = (history: History): ReadonlyArray<Violation> => {
  const violated = violation(9, "no skipped record")
  const reads = readsOf(history)
  const known = groupBy(reads, ({ partition, topic }) => keyed(topic, partition))
  const settledElsewhere = new Set(reads.map(({ group, id, topic }) => keyed(topic, group, id)))
  return only(history, "Register").flatMap((registered) => {
    if (registered.from !== "earliest" || registered.guarantee === "at-most-once") return []
    const own = groupBy(
      reads.filter((read) => groupOf(read) === groupOf(registered)),
      ({ partition }) => String(partition)
    )
    return Array.from(own, ([partition, seen]) => {
      const offsets = new Set(seen.map(({ offset }) => offset))
      const last = Math.max(...offsets)
      // A duplicate of a settled id is passed over, and rightly so.
      return (known.get(keyed(registered.topic, Number(partition))) ?? []).filter(
        ({ id, offset }) =>
          offset < last && !offsets.has(offset) && !settledElsewhere.has(keyed(registered.topic, registered.group, id))
      )
    })
      .filter((skipped) => skipped.length > 0)
      .map((skipped) =>
        violated(
          `group ${quote(registered.group)} read past ${skipped.map(({ offset, partition }) => `${partition}/${offset}`).join(", ")} ` +
            `of ${quote(registered.topic)} without reading it`,
          [registered, ...skipped]
        )
      )
  })
}

export const context = (history: History): ReadonlyArray<Violation> => {
  const violated = violation(18, "context")
  const published = groupBy(only(history, "Publish"), message)
  return readsOf(history).flatMap((read) => {
    const sources = (published.get(message(read)) ?? []).filter(({ content }) => content !== undefined)
    return read.content === undefined || sources.length === 0 || sources.some(({ content }) => content === read.content)
      ? []
      : [violated(`${quote(read.id)} is not what was published under that id`, [...sources, read])]
  })
}
