/** Invariants of what goes on at most: 19, 20, 21 and 22. */
import type { EventOf, History, Violation } from "../../History.ts"
import { groupBy, keyed, only, placeOf, quote, runsOf, violation } from "./facts.ts"

export const convergence = (history: History): ReadonlyArray<Violation> => {
  const violated = violation(19, "convergence")
  const calm = only(history, "Calm").at(-1)
  if (calm === undefined) return []
  const late = only(history, "End").find(({ time }) => time > calm.time + calm.within)
  return late === undefined
    ? []
    : [
        violated(`${quote(late.id)} ended ${late.time - calm.time} ms after the last fault, of ${calm.within}`, [
          calm,
          late
        ])
      ]
}

export const noStarvation = (history: History): ReadonlyArray<Violation> => {
  const violated = violation(20, "no starvation of a key")
  const runs = groupBy(runsOf(history).values(), ({ start }) => keyed(start.topic, start.group))
  return only(history, "Register").flatMap(({ group, prefetch, topic }) => {
    if (prefetch === undefined) return []
    const partitions = groupBy(runs.get(keyed(topic, group)) ?? [], ({ start }) => String(start.partition))
    return Array.from(partitions.values()).flatMap((all) => {
      const first = Array.from(groupBy(all, ({ start }) => placeOf(start)).values(), ([run]) => run!.start).sort(
        (a, b) => a.offset - b.offset
      )
      return first.flatMap((start, index): ReadonlyArray<Violation> => {
        const after = first.slice(index + 1).filter(({ seq }) => seq < start.seq)
        if (after.length <= prefetch) return []
        // It may start from when the last run of an earlier message of its key was over.
        const free = Math.max(
          -1,
          ...all.flatMap((run) =>
            run.start.key === start.key && run.start.offset < start.offset && run.over < start.seq ? [run.over] : []
          )
        )
        const overtaking = after.filter(({ seq }) => seq > free)
        return overtaking.length <= prefetch
          ? []
          : [
              violated(
                `${quote(start.id)} was overtaken by ${overtaking.length} messages of other keys, of ${prefetch} at most`,
                [...overtaking.slice(0, 3), start]
              )
            ]
      })
    })
  })
}

/** What is left behind by who left, and not by what was settled. */
const ofMembers = new Set(["members", "leases"])

export const drained = (history: History): ReadonlyArray<Violation> => {
  const violated = violation(21, "drain")
  const consumers = new Map<string, number>()
  const running = new Map<number, EventOf<"Start">>()
  const violations: Array<Violation> = only(history, "Residue")
    .filter(({ count, what }) => ofMembers.has(what) && count !== 0)
    .map((residue) =>
      violated(
        `everybody has stopped, and ${residue.count} ${residue.what} of group ${quote(residue.group)} are left`,
        [residue]
      )
    )
  const of = ({ group, node, topic }: { readonly node: string; readonly topic: string; readonly group: string }) =>
    keyed(node, topic, group)
  for (const event of history) {
    if (event._tag === "Join") consumers.set(of(event), (consumers.get(of(event)) ?? 0) + 1)
    if (event._tag === "End") running.delete(event.run)
    if (event._tag === "Start") {
      running.set(event.run, event)
      if (consumers.get(of(event)) === 0) {
        violations.push(violated(`${quote(event.id)} started on a node whose consumer had stopped`, [event]))
      }
    }
    if (event._tag === "Leave") {
      consumers.set(of(event), (consumers.get(of(event)) ?? 1) - 1)
      const left = Array.from(running.values()).find((start) => of(start) === of(event))
      if (left !== undefined && consumers.get(of(event)) === 0) {
        violations.push(violated(`the consumer of ${quote(left.id)} stopped, and left it running`, [left, event]))
      }
    }
  }
  return violations
}

export const bounded = (history: History): ReadonlyArray<Violation> => {
  const violated = violation(22, "bounded tables")
  return only(history, "Residue")
    .filter(({ count, what }) => !ofMembers.has(what) && count !== 0)
    .map((residue) =>
      violated(
        `everything is settled, and ${residue.count} ${residue.what} of group ${quote(residue.group)} are left`,
        [residue]
      )
    )
}
