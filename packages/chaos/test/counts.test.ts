/** What is counted of a run, and what of it is a broken promise. */
import { assert, describe, it } from "@effect/vitest"
import { broken, counts, type Found, type Published } from "../src/counts.ts"

const published = (fields: Partial<Published> = {}): Published => ({
  attempted: new Set(["0:1", "0:2", "0:3"]),
  acknowledged: new Set(["0:1", "0:2"]),
  failed: new Set(),
  ...fields
})
const found = (fields: Partial<Found> = {}): Found => {
  const booked = fields.booked ?? new Map([["0:1", 1] as const, ["0:2", 1] as const])
  return { receipts: booked, dead: new Set(), disordered: [], unbalanced: [], unsettled: 0, ...fields, booked }
}
const brokenBy = (of: Partial<Published>, what: Partial<Found>) => broken(counts(published(of), found(what)))

describe("a run", () => {
  it("in which everything acknowledged was booked once breaks nothing", () => {
    assert.deepStrictEqual(brokenBy({}, {}), [])
  })
  it("may book what nobody knew to be published: it is recovered", () => {
    const recovered = counts(published(), found({ booked: new Map(["0:1", "0:2", "0:3"].map((id) => [id, 1])) }))
    assert.strictEqual(recovered.recovered, 1)
    assert.deepStrictEqual(broken(recovered), [])
  })
  it("loses what was acknowledged, and is neither booked nor dead", () => {
    const booked = new Map([["0:1", 1]])
    assert.deepStrictEqual(brokenBy({}, { booked }), ["lost: 1"])
    assert.deepStrictEqual(brokenBy({}, { booked, dead: new Set(["0:2"]) }), [])
  })
  it("books twice, or what was never published, or had certainly failed", () => {
    const once = [["0:1", 1] as const, ["0:2", 1] as const]
    assert.deepStrictEqual(brokenBy({}, { booked: new Map([...once, ["0:1", 3]]) }), ["duplicated: 2"])
    assert.deepStrictEqual(brokenBy({}, { booked: new Map([...once, ["7:7", 1]]) }), ["unexpected: 1"])
    assert.deepStrictEqual(brokenBy({ failed: new Set(["0:3"]) }, { booked: new Map([...once, ["0:3", 1]]) }), [
      "unexpected: 1"
    ])
  })
  it("breaks the order of what was acknowledged; what was not may come at any time", () => {
    assert.deepStrictEqual(brokenBy({}, { disordered: ["0:1", "0:3"] }), ["disordered: 1"])
  })
  it("loses a receipt, or publishes one twice, or one of no booking", () => {
    assert.deepStrictEqual(brokenBy({}, { receipts: new Map([["0:1", 2]]) }), ["receiptsWrong: 2"])
    assert.deepStrictEqual(brokenBy({}, { receipts: new Map(["0:1", "0:2", "9:9"].map((id) => [id, 1])) }), [
      "receiptsWrong: 1"
    ])
  })
  it("does not balance, or does not come to an end, or shows nothing", () => {
    assert.deepStrictEqual(brokenBy({}, { unbalanced: ["0"], unsettled: 3 }), ["unbalanced: 1", "unsettled: 3"])
    assert.deepStrictEqual(brokenBy({ acknowledged: new Set() }, { booked: new Map() }), ["handled: 0"])
  })
})
