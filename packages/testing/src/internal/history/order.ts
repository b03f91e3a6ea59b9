/** Invariants of order and of attempts: 11 and 13. */
import type { EventOf, History, Violation } from "../../History.ts"
import {
  before,
  cutOff,
  cutsOf,
  groupBy,
  keyed,
  only,
  placeOf,
  quote,
  type RunFacts,
  redrivesOf,
  runsOf,
  staleStarts,
  violation
} from "./facts.ts"

/** Pairs of messages of one key of which one was published first for certain. */
const ordered = (history: History): ReadonlyMap<string, ReadonlyArray<EventOf<"Publish">>> => {
  const first = new Map<string, EventOf<"Publish">>()
  for (const publish of only(history, "Publish")) {
    if (publish.outcome !== "ok" || publish.key === undefined) continue
    const id = keyed(publish.topic, publish.id)
    if (!first.has(id)) first.set(id, publish)
  }
  return groupBy(first.values(), ({ key, run, topic }) => keyed(topic, key, run))
}

export const orderWithinKey = (history: History): ReadonlyArray<Violation> => {
  const violated = violation(11, "order within a key")
  const redrives = redrivesOf(history)
  const stale = staleStarts(history)
  const wasCutOff = cutOff(history)
  // A redriven message is exempt: later ones of its key have been handled. So is what a former holder begins.
  const inOrder = Array.from(runsOf(history).values()).filter(
    ({ start }) => !stale.has(start) && redrives(start).every((seq) => seq > start.seq)
  )
  const runs = groupBy(inOrder, ({ start }) => keyed(start.topic, start.id))
  const dead = new Set(
    [...only(history, "DeadLetter"), ...only(history, "Redrive")].map(({ group, id, topic }) => keyed(topic, group, id))
  )
  const violations: Array<Violation> = []
  const firstCommit = ({ committed }: RunFacts) => committed[0]?.seq ?? Infinity

  const compare = (of: ReadonlyArray<RunFacts>, earlier: ReadonlyArray<RunFacts>): void => {
    for (const run of of) {
      const { start } = run
      const done = earlier.some(
        ({ end, over }) =>
          over < start.seq && (end?.outcome === "ok" || dead.has(keyed(start.topic, start.group, earlier[0]!.start.id)))
      )
      const together = start.batch !== undefined && earlier.some((other) => other.start.batch === start.batch)
      const blocking =
        done || together
          ? undefined
          : earlier.find(({ over, start: other }) => over > start.seq && !wasCutOff(other.node, other.seq, start.seq))
      if (blocking !== undefined) {
        violations.push(
          violated(
            `${quote(start.id)} started in group ${quote(start.group)} before the earlier ${quote(blocking.start.id)} of key ${quote(start.key ?? "")} had ended`,
            [blocking.start, blocking.end, start]
          )
        )
      }
    }
    const late = earlier.find((first) => of.some((run) => firstCommit(run) < firstCommit(first) && first.committed[0]))
    if (late !== undefined) {
      violations.push(
        violated(
          `the effects of ${quote(of[0]!.start.id)} were written before those of the earlier ${quote(late.start.id)} of its key`,
          [late.committed[0], ...of.map(({ committed }) => committed[0])]
        )
      )
    }
  }

  for (const publishes of ordered(history).values()) {
    for (const publish of publishes) {
      const own = groupBy(runs.get(keyed(publish.topic, publish.id)) ?? [], ({ start }) => start.group)
      for (const earlier of publishes) {
        if (!before(earlier, publish)) continue
        const others = groupBy(runs.get(keyed(earlier.topic, earlier.id)) ?? [], ({ start }) => start.group)
        for (const [group, of] of own) compare(of, others.get(group) ?? [])
      }
    }
  }
  return violations
}

export const attempts = (history: History): ReadonlyArray<Violation> => {
  const violated = violation(13, "attempts")
  const batches = new Set(
    only(history, "Register")
      .filter(({ batchSize }) => batchSize > 1)
      .map(({ group, topic }) => keyed(topic, group))
  )
  const cuts = cutsOf(history)
  // Dead already when its holder ended, before the cursor had passed it: at-least-once it comes again, and is counted anew.
  const repeatable = new Set(
    only(history, "Register")
      .filter(({ guarantee }) => guarantee === "at-least-once")
      .map(({ group, topic }) => keyed(topic, group))
  )
  const dead = new Set(only(history, "DeadLetter").map(placeOf))
  const startsAnew = (previous: RunFacts, { start }: RunFacts) =>
    repeatable.has(keyed(start.topic, start.group)) &&
    dead.has(placeOf(start)) &&
    cuts.some(({ seq }) => seq > previous.over && seq < start.seq)
  const redrives = redrivesOf(history)
  // Invariant 14: a redrive counts anew.
  const records = groupBy(runsOf(history).values(), ({ start }) =>
    keyed(placeOf(start), redrives(start).filter((seq) => seq < start.seq).length)
  )
  return Array.from(records.values()).flatMap((runs) =>
    runs.flatMap((run, index) => {
      const { start } = run
      // A stale holder does not know of its successor's attempts.
      const previous = runs.slice(0, index).findLast((other) => other.start.epoch <= start.epoch)
      const name = quote(start.id)
      // What was interrupted by a shutdown does not count; what a crash interrupted may have been claimed unseen.
      const counted = runs
        .slice(0, index)
        .filter(({ end, over }) => !(end?.outcome === "interrupt" && over < start.seq)).length
      const most = 1 + counted + cuts.filter(({ seq }) => seq < start.seq).length
      if (start.attempt < 1 || start.attempt > most) {
        return [
          violated(`run ${index + 1} of ${name} is called attempt ${start.attempt}, of at most ${most}`, [
            previous?.start,
            previous?.end,
            start
          ])
        ]
      }
      if (previous === undefined || startsAnew(previous, run)) return []
      // Of a batch only the failure of a single message counts.
      const grows =
        !batches.has(keyed(start.topic, start.group)) && (previous.end?.outcome === "fail" || previous.crashed)
      return start.attempt < previous.start.attempt + (grows ? 1 : 0)
        ? [
            violated(
              `attempt ${previous.start.attempt} of ${name} ${grows ? "failed, and was" : "was"} followed by attempt ${start.attempt}`,
              [previous.start, previous.end, start]
            )
          ]
        : []
    })
  )
}
