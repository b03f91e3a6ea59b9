/** Histories by hand: one topic, one group, the partition 0, the node "n1", unless a test says otherwise. */
import { assert } from "@effect/vitest"
import * as History from "@surety/testing/History"
import type { RunnerTask, TestContext } from "vitest"

export type Of<Tag extends History.Fact["_tag"]> = Partial<Extract<History.Fact, { readonly _tag: Tag }>>

export const here = { topic: "t", group: "g" }

export const register = (fields: Of<"Register"> = {}): History.Fact => ({
  _tag: "Register",
  ...here,
  guarantee: "exactly-once",
  from: "earliest",
  batchSize: 1,
  ...fields
})

export const publish = (id: string, fields: Of<"Publish"> = {}): History.Fact => ({
  _tag: "Publish",
  outcome: "ok",
  node: "n1",
  topic: "t",
  id,
  key: "k",
  call: -1,
  index: 0,
  run: undefined,
  content: undefined,
  ...fields
})

type Invariant = (history: History.History) => ReadonlyArray<History.Violation>

/** The invariants that have found something in a test of this file. */
const fired = new Set<Invariant>()

/** The invariants that History.endings.test.ts is about. The others are those of History.test.ts. */
const endings: ReadonlyArray<Invariant> = [
  History.outboxComplete,
  History.disposition,
  History.deduplication,
  History.ackHonesty,
  History.convergence,
  History.noStarvation,
  History.drained,
  History.bounded
]

/** The last test of a file: an invariant that finds nothing in any history checks nothing. */
export const allHaveFired = ({ skip, task }: TestContext, of: "endings" | "the others") => {
  const ran = (one: RunnerTask): boolean => one.mode === "run" && (one.type === "test" || one.tasks.every(ran))
  if (!task.file.tasks.every(ran)) skip("not every test of this file was run")
  const silent = History.invariants.filter(
    (invariant) => endings.includes(invariant) === (of === "endings") && !fired.has(invariant)
  )
  assert.deepStrictEqual(
    Object.entries(History).flatMap(([name, value]) => (silent.includes(value as Invariant) ? [name] : [])),
    []
  )
}

/** Exactly these sentences are said of a history by an invariant. */
export const finds = (
  invariant: Invariant,
  facts: ReadonlyArray<History.Fact>,
  ...sentences: ReadonlyArray<RegExp>
) => {
  const violations = invariant(History.fromFacts(facts))
  if (violations.length > 0) fired.add(invariant)
  assert.strictEqual(violations.length, sentences.length, History.format(violations))
  sentences.forEach((sentence, index) => {
    assert.match(violations[index]!.message, sentence)
    assert.isAbove(violations[index]!.events.length, 0)
  })
}
