/** Invariants of how a message ends: 14 and 15. */
import type { Event, History, Violation } from "../../History.ts"
import { cutsOf, groupBy, keyed, only, placeOf, quote, redrivesOf, runsOf, staleStarts, violation } from "./facts.ts"

const messageOf = ({ group, id, topic }: { readonly topic: string; readonly group: string; readonly id: string }) =>
  keyed(topic, group, id)

/** Groups in which an id ends once. */
const onceOnly = (history: History): ReadonlySet<string> =>
  new Set(
    only(history, "Register")
      .filter(({ guarantee }) => guarantee === "exactly-once")
      .map(({ group, topic }) => keyed(topic, group))
  )

const committedRuns = (history: History) =>
  groupBy(
    Array.from(runsOf(history).values()).filter(({ committed }) => committed.length > 0),
    ({ start }) => messageOf(start)
  )

export const dispositions = (history: History): ReadonlyArray<Violation> => {
  const violated = violation(14, "disposition")
  const once = onceOnly(history)
  const committed = committedRuns(history)
  const letters = only(history, "DeadLetter")
  const lettersOf = groupBy(letters, messageOf)
  const redrives = redrivesOf(history)
  // What a node that was cut off has claimed is an attempt that nobody saw begin.
  const cuts = cutsOf(history)
  const cut = cuts.length > 0
  const runs = groupBy(runsOf(history).values(), ({ start }) => placeOf(start))
  const byId = groupBy(runsOf(history).values(), ({ start }) => keyed(start.topic, start.id))
  const published = groupBy(only(history, "Publish"), ({ id, topic }) => keyed(topic, id))

  const ofLetters = letters.flatMap((letter) => {
    const name = quote(letter.id)
    const redriven = redrives(letter)
    const all = runs.get(placeOf(letter)) ?? []
    const last = Math.max(-1, ...all.map(({ start }) => start.seq))
    // A redrive that was interrupted has not reached it.
    const since = Math.max(-1, ...redriven.filter((seq) => seq < last))
    const made = all.filter(({ start }) => start.seq > since)
    const most = Math.max(0, ...made.map(({ start }) => start.attempt))
    const found: Array<Violation> = []
    if (letter.cause === "") found.push(violated(`the dead letter ${name} has no cause`, [letter]))
    // What does not decode has made none since.
    const untouched = redriven.some((seq) => seq > last) && letter.attempts === 0
    if (!untouched && (cut ? letter.attempts < most : letter.attempts !== most)) {
      found.push(
        violated(`the dead letter ${name} counts ${letter.attempts} attempts, of ${most}`, [
          ...made.map(({ start }) => start),
          letter
        ])
      )
    }
    if (!once.has(keyed(letter.topic, letter.group))) return found
    const handled = committed.get(messageOf(letter))
    if (handled !== undefined) {
      found.push(violated(`${name} is handled, and dead`, [...handled.map(({ start }) => start), letter]))
    }
    const [first, ...more] = lettersOf.get(messageOf(letter))!
    if (first === letter && more.length > 0) found.push(violated(`${name} is dead more than once`, [first, ...more]))
    return found
  })

  const ofRedrives = only(history, "Redrive").flatMap((redrive) => {
    const found: Array<Violation> = []
    const next = (runs.get(placeOf(redrive)) ?? []).find(({ start }) => start.seq > redrive.seq)
    const unseen = cuts.filter(({ seq }) => seq > redrive.seq && seq < (next?.start.seq ?? 0)).length
    if (next !== undefined && next.start.attempt > 1 + unseen) {
      found.push(
        violated(`the first attempt of ${quote(redrive.id)} after its redrive is called ${next.start.attempt}`, [
          redrive,
          next.start
        ])
      )
    }
    // Another group that was done with it, and has no other reason to begin again.
    const disturbed = (from: number) =>
      history.some(({ _tag, seq }) => seq > from && (_tag === "Crash" || _tag === "Disconnect" || _tag === "Leave"))
    for (const [group, all] of groupBy(byId.get(keyed(redrive.topic, redrive.id)) ?? [], ({ start }) => start.group)) {
      if (group === redrive.group) continue
      const done = all.find(({ end, over }) => end?.outcome === "ok" && over < redrive.seq)
      const again = all.find(({ start }) => start.seq > redrive.seq)
      if (done === undefined || again === undefined || disturbed(done.over)) continue
      // Another record of that id: one that somebody has published, perhaps.
      if (
        placeOf(done.start) !== placeOf(again.start) &&
        (published.get(keyed(redrive.topic, redrive.id)) ?? []).length > 1
      )
        continue
      const events: ReadonlyArray<Event | undefined> = [done.end, redrive, again.start]
      found.push(violated(`the redrive of ${quote(redrive.id)} reached group ${quote(group)} as well`, events))
    }
    return found
  })
  return [...ofLetters, ...ofRedrives]
}

export const deduplication = (history: History): ReadonlyArray<Violation> => {
  const violated = violation(15, "deduplication")
  const once = onceOnly(history)
  const committed = committedRuns(history)
  // What a stale holder goes on with, in a transaction that aborts, is invariant 10's.
  const stale = staleStarts(history)
  return only(history, "Start").flatMap((start) => {
    if (stale.has(start) || !once.has(keyed(start.topic, start.group))) return []
    const earlier = (committed.get(messageOf(start)) ?? []).find(({ over }) => over < start.seq)
    return earlier === undefined
      ? []
      : [
          violated(`${quote(start.id)} was handled again after it had been handled`, [
            earlier.start,
            earlier.end,
            start
          ])
        ]
  })
}
