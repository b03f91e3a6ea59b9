/** Compares what came of the deliveries with what had to. */
import type { DeadLetters } from "@surety/core"
import { counterKey, type Truth } from "./deliveries.ts"
import type { Tally } from "./tally.ts"

/** What is found in the database after the run. */
export interface Outcome {
  /** Activity rows by delivery. */
  readonly applied: ReadonlyMap<string, number>
  /** Summary messages by delivery. */
  readonly summaries: ReadonlyMap<string, number>
  /** Deliveries by subject and event, as the workers counted them. */
  readonly counters: ReadonlyMap<string, number>
  readonly deadLetters: ReadonlyArray<DeadLetters.DeadLetter>
}

export interface Findings {
  readonly distinct: number
  readonly accepted: number
  /** Effects that were applied. */
  readonly applied: number
  readonly deadLettered: number
  /** Accepted deliveries of which neither the effects nor a dead letter is found. */
  readonly lost: number
  /** Deliveries whose effects are found more than once. */
  readonly twice: number
  /** Accepted requests that had no effects of their own, because another one had them. */
  readonly duplicatesSkipped: number
  /** What else differs from the truth. */
  readonly discrepancies: ReadonlyArray<string>
}

const sum = (numbers: Iterable<number>): number => {
  let total = 0
  for (const n of numbers) total += n
  return total
}

const equalBytes = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0

export const audit = (truth: Truth, tally: Pick<Tally, "accepted">, outcome: Outcome): Findings => {
  const dead = Map.groupBy(outcome.deadLetters, ({ record }) => record.id)
  let lost = 0
  let twice = 0
  let duplicatesSkipped = 0
  const differing = {
    "deliveries that were never accepted": 0,
    "effects of deliveries that were never sent": 0,
    "deliveries in the dead letters that the schema accepts": 0,
    "deliveries applied that the schema refuses": 0,
    "dead letters that are not the bytes that were sent": 0,
    "deliveries dead-lettered more than once": 0,
    "counters that are wrong": 0
  }
  for (const [id, delivery] of truth.deliveries) {
    const accepted = tally.accepted.get(id) ?? 0
    const applied = outcome.applied.get(id) ?? 0
    const summaries = outcome.summaries.get(id) ?? 0
    const letters = dead.get(id) ?? []
    const settled = Math.min(applied, summaries) + letters.length
    if (accepted === 0) differing["deliveries that were never accepted"]++
    else if (settled === 0) lost++
    if (applied > 1 || summaries > 1 || (applied > 0 && letters.length > 0)) twice++
    duplicatesSkipped += Math.max(0, accepted - Math.max(1, settled))
    if (letters.length > 0 && !delivery.poison) differing["deliveries in the dead letters that the schema accepts"]++
    if (applied > 0 && delivery.poison) differing["deliveries applied that the schema refuses"]++
    if (letters.length > 1) differing["deliveries dead-lettered more than once"]++
    const bytes = delivery.body()
    if (letters.some(({ record }) => !equalBytes(record.payload, bytes)))
      differing["dead letters that are not the bytes that were sent"]++
  }
  for (const id of new Set([...outcome.applied.keys(), ...outcome.summaries.keys(), ...dead.keys()])) {
    if (!truth.deliveries.has(id)) differing["effects of deliveries that were never sent"]++
  }
  for (const key of new Set([...truth.counters.keys(), ...outcome.counters.keys()])) {
    if (truth.counters.get(key) !== outcome.counters.get(key)) differing["counters that are wrong"]++
  }
  return {
    distinct: truth.deliveries.size,
    accepted: sum(tally.accepted.values()),
    applied: sum(outcome.applied.values()),
    deadLettered: outcome.deadLetters.length,
    lost,
    twice,
    duplicatesSkipped,
    discrepancies: Object.entries(differing)
      .filter(([, count]) => count > 0)
      .map(([what, count]) => `${what}: ${count}`)
  }
}

/** Whether all is as it had to be. */
export const isFine = ({ discrepancies, lost, twice }: Findings): boolean =>
  lost === 0 && twice === 0 && discrepancies.length === 0

export const counterMap = (
  rows: ReadonlyArray<{ readonly subject: string; readonly event: string; readonly deliveries: number }>
): ReadonlyMap<string, number> =>
  new Map(rows.map(({ deliveries, event, subject }) => [counterKey(subject, event), deliveries]))
