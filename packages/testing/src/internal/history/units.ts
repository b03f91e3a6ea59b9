/** Invariants of units of work: 5, 6, 7 and 10. */
import type { Event, EventOf, History, Violation } from "../../History.ts"
import { groupBy, isCommitted, keyed, only, quote, type RunFacts, runsOf, violation } from "./facts.ts"

const messageOf = ({ start }: RunFacts) => keyed(start.topic, start.group, start.id)

const committedRuns = (history: History): ReadonlyArray<RunFacts> =>
  Array.from(runsOf(history).values()).filter(({ committed }) => committed.length > 0)

export const effectivelyOnce = (history: History): ReadonlyArray<Violation> => {
  const violated = violation(5, "effectively once")
  const runs = runsOf(history)
  const violations: Array<Violation> = only(history, "Commit")
    .filter(({ run }) => !runs.has(run))
    .map((commit) => violated(`an effect of run ${commit.run} is in the store, but no such run started`, [commit]))
  for (const of of groupBy(committedRuns(history), messageOf).values()) {
    const { start } = of[0]!
    if (of.length > 1) {
      violations.push(
        violated(
          `effects of ${of.length} runs of ${quote(start.id)} are in the store`,
          of.flatMap((run) => [run.start, run.end, ...run.committed])
        )
      )
    }
    for (const run of of) {
      const steps = run.committed.map(({ step }) => step).sort((a, b) => a - b)
      const written = run.applied.map(({ step }) => step).sort((a, b) => a - b)
      if (steps.join() !== written.join() || run.end?.outcome !== "ok") {
        violations.push(
          violated(
            `a run of ${quote(start.id)} that wrote the effects ${written} and ended ${run.end?.outcome ?? "in a crash"} left ${steps} in the store`,
            [run.start, ...run.applied, run.end, ...run.committed]
          )
        )
      }
    }
  }
  return violations
}

export const concurrentDuplicates = (history: History): ReadonlyArray<Violation> => {
  const violated = violation(6, "concurrent duplicates")
  return Array.from(groupBy(committedRuns(history), messageOf).values()).flatMap((runs) =>
    runs.flatMap((a, index) =>
      runs
        .slice(index + 1)
        .filter((b) => a.start.seq < b.over && b.start.seq < a.over)
        .map((b) =>
          violated(`two runs of ${quote(a.start.id)} overlapped, and both committed`, [a.start, a.end, b.start, b.end])
        )
    )
  )
}

export const atomicUnit = (history: History): ReadonlyArray<Violation> => {
  const violated = violation(7, "atomic unit of work")
  const observed = new Set(only(history, "Register").map(({ topic }) => topic))
  const lossy = new Set(
    only(history, "Register")
      .filter(({ guarantee }) => guarantee === "at-most-once")
      .map(({ topic }) => topic)
  )
  const delivered = new Set(
    [...only(history, "Start"), ...only(history, "DeadLetter")].map(({ id, topic }) => keyed(topic, id))
  )
  const publishes = groupBy(only(history, "Publish"), ({ id, topic }) => keyed(topic, id))
  /** By whom else it may have been published: another attempt, say. */
  const others = (publish: EventOf<"Publish">, committed: boolean) =>
    !committed && publishes.get(keyed(publish.topic, publish.id))!.some(({ run }) => run !== publish.run)
  const settled = new Map(
    only(history, "Progress").map((progress) => [keyed(progress.topic, progress.group, progress.partition), progress])
  )
  return Array.from(runsOf(history).values()).flatMap((run) => {
    const present: Array<Event> = [...run.committed]
    const committed = new Set(run.committed.map(({ step }) => step))
    const absent: Array<Event> = run.applied.filter(({ step }) => !committed.has(step))
    for (const publish of run.published) {
      if (publish.outcome === "fail" || !observed.has(publish.topic)) continue
      if (delivered.has(keyed(publish.topic, publish.id))) {
        if (!others(publish, run.committed.length > 0)) present.push(publish)
      } else if (!lossy.has(publish.topic)) {
        absent.push(publish)
      }
    }
    if (isCommitted(run) === true) {
      const progress = settled.get(keyed(run.start.topic, run.start.group, run.start.partition))
      if (progress !== undefined && progress.settled < run.start.offset) absent.push(progress)
    }
    return present.length > 0 && absent.length > 0
      ? [
          violated(
            `of a run of ${quote(run.start.id)}, ${present.map(describe).join(", ")} took effect, but not ${absent.map(describe).join(", ")}`,
            [run.start, run.end, ...present, ...absent]
          )
        ]
      : []
  })
}

const describe = (event: Event): string => {
  switch (event._tag) {
    case "Publish":
      return `message ${quote(event.id)}`
    case "Progress":
      return "its settlement"
    case "Apply":
    case "Commit":
      return `effect ${event.step}`
    default:
      return event._tag
  }
}

export const fencing = (history: History): ReadonlyArray<Violation> => {
  const violated = violation(10, "fencing")
  const partitionOf = (of: { readonly topic: string; readonly group: string; readonly partition: number }) =>
    keyed(of.topic, of.group, of.partition)
  const settlements = only(history, "Settle").filter(({ outcome }) => outcome === "ok")
  const signs = groupBy([...only(history, "Start"), ...settlements], partitionOf)
  /** The first sign of a later epoch before a place in the history. */
  const successor = (of: Parameters<typeof partitionOf>[0] & { readonly epoch: number }, seq: number) =>
    (signs.get(partitionOf(of)) ?? []).find((sign) => sign.epoch > of.epoch && sign.seq < seq)
  return [
    ...committedRuns(history).flatMap((run) => {
      // It can have committed only after its end.
      const later = run.end === undefined ? undefined : successor(run.start, run.end.seq)
      return later === undefined
        ? []
        : [
            violated(
              `a run of ${quote(run.start.id)} under epoch ${run.start.epoch} committed after epoch ${later.epoch} had begun, in group ${quote(run.start.group)}`,
              [run.start, later, run.end, ...run.committed]
            )
          ]
    }),
    ...settlements.flatMap((settle) => {
      const later = successor(settle, settle.call)
      return later === undefined
        ? []
        : [
            violated(
              `epoch ${settle.epoch} settled partition ${settle.partition} up to ${settle.offset} after epoch ${later.epoch} had begun, in group ${quote(settle.group)}`,
              [later, settle]
            )
          ]
    })
  ]
}
