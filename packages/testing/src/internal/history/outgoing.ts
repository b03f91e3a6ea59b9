/** Invariants of publishing: 8 and 16. */
import type { History, Violation } from "../../History.ts"
import { groupBy, isCommitted, keyed, only, quote, runsOf, violation } from "./facts.ts"

const messageOf = ({ id, topic }: { readonly topic: string; readonly id: string }) => keyed(topic, id)

/** Topics of which a group reads all that is acknowledged. */
const readInFull = (history: History): ReadonlySet<string> =>
  new Set(
    only(history, "Register")
      .filter(({ from, guarantee }) => from === "earliest" && guarantee !== "at-most-once")
      .map(({ topic }) => topic)
  )

const readsOf = (history: History) => groupBy([...only(history, "Start"), ...only(history, "DeadLetter")], messageOf)

export const outboxComplete = (history: History): ReadonlyArray<Violation> => {
  const violated = violation(8, "outbox complete")
  const runs = runsOf(history)
  const complete = readInFull(history)
  const reads = readsOf(history)
  const publishes = groupBy(only(history, "Publish"), messageOf)
  return only(history, "Publish").flatMap((publish) => {
    if (publish.run === undefined || publish.outcome !== "ok") return []
    const run = runs.get(publish.run)
    const read = reads.get(messageOf(publish)) ?? []
    const name = quote(publish.id)
    if (isCommitted(run) === true && complete.has(publish.topic) && read.length === 0) {
      return [violated(`${name} is part of a run that committed, and was never published`, [run?.start, publish])]
    }
    // What else was published under its id cannot be told from it.
    if (read.length === 0 || publishes.get(messageOf(publish))!.length > 1) return []
    if (isCommitted(run) === false) {
      return [violated(`${name} was published, and its run did not commit`, [run?.start, publish, run?.end, ...read])]
    }
    const early = read.find(({ _tag, seq }) => _tag === "Start" && seq < (run?.over ?? 0))
    if (early !== undefined) {
      return [violated(`${name} was read before its run had ended`, [run?.start, publish, early, run?.end])]
    }
    const places = new Set(read.map(({ offset, partition }) => keyed(partition, offset)))
    return places.size > 1 ? [violated(`${name} was published ${places.size} times`, [publish, ...read])] : []
  })
}

export const ackHonesty = (history: History): ReadonlyArray<Violation> => {
  const violated = violation(16, "ack honesty")
  const complete = readInFull(history)
  const reads = readsOf(history)
  return Array.from(
    groupBy(
      only(history, "Publish").filter(({ run }) => run === undefined),
      messageOf
    )
  ).flatMap(([message, publishes]) => {
    const read = reads.get(message) ?? []
    const acknowledged = publishes.find(({ outcome, topic }) => outcome === "ok" && complete.has(topic))
    if (acknowledged !== undefined && read.length === 0) {
      return [violated(`${quote(acknowledged.id)} was acknowledged, and is gone`, publishes)]
    }
    return read.length > 0 && publishes.every(({ outcome }) => outcome === "fail")
      ? [violated(`${quote(publishes[0]!.id)} was reported as not sent, and was`, [...publishes, ...read])]
      : []
  })
}
