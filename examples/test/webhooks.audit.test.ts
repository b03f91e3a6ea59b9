import { assert, describe, it } from "@effect/vitest"
import type { DeadLetters } from "@surety/core"
import { audit, isFine, type Outcome } from "../src/webhooks/audit.ts"
import * as Input from "../src/webhooks/deliveries.ts"
import * as Report from "../src/webhooks/report.ts"

const deliveries = Input.make(200)
const truth = Input.truth(deliveries)
const good = deliveries.filter(({ poison }) => !poison)
const bad = deliveries.filter(({ poison }) => poison)

const letter = (delivery: Input.Delivery, payload = delivery.body()): DeadLetters.DeadLetter => ({
  topic: "github-deliveries",
  group: "activity",
  record: { id: delivery.id, key: undefined, headers: {}, time: 0, payload, partition: 0, offset: 1 },
  failure: { tag: "DecodeFailed", message: "", cause: "" },
  attempts: 0,
  time: 0
})

const once = (all: ReadonlyArray<Input.Delivery>) => new Map(all.map(({ id }) => [id, 1]))

const accepted = once(deliveries)

const right: Outcome = {
  applied: once(good),
  summaries: once(good),
  counters: truth.counters,
  deadLetters: bad.map((delivery) => letter(delivery))
}

const find = (outcome: Partial<Outcome>, answered: ReadonlyMap<string, number> = accepted) =>
  audit(truth, { accepted: new Map(answered) }, { ...right, ...outcome })

const without = <K, V>(map: ReadonlyMap<K, V>, key: K) => new Map(Array.from(map).filter(([k]) => k !== key))

describe("the audit", () => {
  it("finds nothing where each delivery was applied once, or is in the dead letters", () => {
    const findings = find({})
    assert.isTrue(isFine(findings))
    assert.deepStrictEqual(findings, {
      distinct: 200,
      accepted: 200,
      applied: good.length,
      deadLettered: bad.length,
      lost: 0,
      twice: 0,
      duplicatesSkipped: 0,
      discrepancies: []
    })
  })

  it("counts a redelivery without effects as a duplicate that was skipped", () => {
    const findings = find({}, new Map(accepted).set(good[0]!.id, 3).set(bad[0]!.id, 2))
    assert.isTrue(isFine(findings))
    assert.strictEqual(findings.duplicatesSkipped, 3)
  })

  it.each<[what: string, outcome: Partial<Outcome>]>([
    ["effects", { applied: without(right.applied, good[0]!.id), summaries: without(right.summaries, good[0]!.id) }],
    ["the activity row", { applied: without(right.applied, good[0]!.id) }],
    ["the summary", { summaries: without(right.summaries, good[0]!.id) }],
    ["the dead letter", { deadLetters: right.deadLetters.slice(1) }]
  ])("finds a lost delivery: %s", (_, outcome) => {
    assert.strictEqual(find(outcome).lost, 1)
    assert.isFalse(isFine(find(outcome)))
  })

  it.each<[what: string, outcome: Partial<Outcome>]>([
    ["two activity rows", { applied: new Map(right.applied).set(good[0]!.id, 2) }],
    ["two summaries", { summaries: new Map(right.summaries).set(good[0]!.id, 2) }],
    ["applied and dead-lettered", { deadLetters: [...right.deadLetters, letter(good[0]!)] }]
  ])("finds a delivery that was applied twice: %s", (_, outcome) => {
    assert.strictEqual(find(outcome).twice, 1)
    assert.isFalse(isFine(find(outcome)))
  })

  const counter = Array.from(truth.counters.keys())[0]!
  it.each<[what: string, outcome: Partial<Outcome>]>([
    ["counters that are wrong", { counters: new Map(truth.counters).set(counter, 99) }],
    ["counters that are wrong", { counters: without(truth.counters, counter) }],
    ["counters that are wrong", { counters: new Map(truth.counters).set("nobody/nothing issues", 1) }],
    ["effects of deliveries that were never sent", { applied: new Map(right.applied).set("forged", 1) }],
    [
      "dead letters that are not the bytes that were sent",
      { deadLetters: bad.map((d) => letter(d, Uint8Array.of(1))) }
    ],
    ["deliveries dead-lettered more than once", { deadLetters: [...right.deadLetters, letter(bad[0]!)] }],
    ["deliveries applied that the schema refuses", { applied: new Map(right.applied).set(bad[0]!.id, 1) }]
  ])("finds %s", (what, outcome) => {
    const findings = find(outcome)
    assert.isTrue(
      findings.discrepancies.some((line) => line.startsWith(what)),
      String(findings.discrepancies)
    )
    assert.isFalse(isFine(findings))
  })

  it("does not call lost what was never accepted, and does not call it fine", () => {
    const id = good[0]!.id
    const outcome = { applied: without(right.applied, id), summaries: without(right.summaries, id) }
    const findings = find(outcome, without(accepted, id))
    assert.strictEqual(findings.lost, 0)
    assert.include(findings.discrepancies, "deliveries that were never accepted: 1")
    assert.isFalse(isFine(findings))
  })
})

describe("the report", () => {
  const report: Report.Report = { ...find({}), sent: 240, kills: 2, seconds: 2, latencies: [5, 1, 3, 2, 4] }
  const options = { deliveries: 200, kills: 2, workers: 2, json: true, withoutInbox: false }

  it("is one JSON object with the figures", () => {
    assert.deepStrictEqual(JSON.parse(Report.json(report)), {
      sent: 240,
      distinct: 200,
      applied: good.length,
      lost: 0,
      twice: 0,
      duplicatesSkipped: 0,
      deadLettered: bad.length,
      perSecond: Math.round(good.length / 2)
    })
  })

  it("takes percentiles by nearest rank", () => {
    assert.strictEqual(Report.percentile(report.latencies, 0.5), 3)
    assert.strictEqual(Report.percentile(report.latencies, 0.99), 5)
    assert.isNaN(Report.percentile([], 0.5))
  })

  it("says that all is fine only when it is", () => {
    const fine = "Every accepted delivery was applied exactly once"
    assert.include(Report.table(report, options), fine)
    for (const wrong of [{ lost: 1 }, { twice: 1 }, { discrepancies: ["counters that are wrong: 1"] }]) {
      assert.notInclude(Report.table({ ...report, ...wrong }, options), fine)
    }
  })

  it("says what the inbox is for, when it was left out", () => {
    const table = Report.table({ ...report, twice: 7 }, { ...options, withoutInbox: true })
    assert.include(table, "Without the inbox 7 deliveries were applied more than once")
  })
})
