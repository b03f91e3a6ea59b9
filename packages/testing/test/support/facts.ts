/** Histories by hand: one topic, one group, the partition 0, the node "n1", unless a test says otherwise. */
import { assert } from "@effect/vitest"
import * as History from "@surety/testing/History"

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

/** Exactly these sentences are said of a history by an invariant. */
export const finds = (
  invariant: (history: History.History) => ReadonlyArray<History.Violation>,
  facts: ReadonlyArray<History.Fact>,
  ...sentences: ReadonlyArray<RegExp>
) => {
  const violations = invariant(History.fromFacts(facts))
  assert.strictEqual(violations.length, sentences.length, History.format(violations))
  sentences.forEach((sentence, index) => {
    assert.match(violations[index]!.message, sentence)
    assert.isAbove(violations[index]!.events.length, 0)
  })
}
