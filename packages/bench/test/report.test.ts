import { assert, describe, it } from "@effect/vitest"
import * as Report from "../src/report.ts"
import { median, percentile } from "../src/statistics.ts"
import type { Role } from "../src/system.ts"
import type { Row } from "../src/workload.ts"

const rate: Row = {
  title: "publish",
  unit: "messages/s",
  better: "more",
  bars: [
    { of: "peer", at: "least", value: 2 },
    { of: "limit", at: "least", value: 0.9 }
  ]
}

const series = (system: string, role: Role, ...values: ReadonlyArray<number>): Report.Series => ({
  system,
  role,
  values,
  settings: `as ${system} likes it`
})

const line = (row: Row, ...all: ReadonlyArray<Report.Series>): Report.Line => ({
  workload: "publish",
  row,
  series: all
})

const measured = line(
  rate,
  series("surety", "ours", 900, 1200, 1000),
  series("slow", "peer", 100, 100, 100),
  series("fast", "peer", 410, 390, 400),
  series("hand-written", "limit", 2000, 2000, 2000)
)

describe("the report", () => {
  it("compares medians with the best peer and with hand-written SQL", () => {
    assert.deepStrictEqual(Report.compare(measured), {
      workload: "publish",
      ours: 1000,
      bestPeer: 400,
      peer: "fast",
      limit: 2000,
      ratioPeer: 2.5,
      ratioLimit: 0.5
    })
  })

  it("takes the lowest for the best where less is better", () => {
    const latency = line(
      { ...rate, unit: "ms", better: "less" },
      series("surety", "ours", 2),
      series("slow", "peer", 8),
      series("fast", "peer", 4)
    )
    assert.deepInclude(Report.compare(latency), { bestPeer: 4, peer: "fast", ratioPeer: 0.5, ratioLimit: null })
  })

  it("says which bars are met, and which cannot be told", () => {
    const [peer, limit] = rate.bars
    assert.isTrue(Report.isMet(measured, peer!))
    assert.isFalse(Report.isMet(measured, limit!))
    assert.isTrue(Report.isMet(measured, { of: "peer", at: "most", value: 2.5 }))
    assert.isTrue(Report.isMet(measured, { of: "itself", at: "least", value: 1000 }))
    assert.isUndefined(Report.isMet(line(rate, series("surety", "ours", 1)), peer!))
  })

  const lines = [measured, line(rate)]

  it("prints every system with its settings, the ratios and the bars", () => {
    assert.strictEqual(
      Report.sections(lines),
      `
publish: publish [messages/s]
  surety        1,000    900 to 1,200  as surety likes it
  slow            100      100 to 100  as slow likes it
  fast            400      390 to 410  as fast likes it
  hand-written  2,000  2,000 to 2,000  as hand-written likes it
  ours: 2.50 × best peer (fast), 0.50 × hand-written
  bar ≥ 2 × best peer: met
  bar ≥ 0.9 × hand-written: NOT MET

publish: publish [messages/s]
  bar ≥ 2 × best peer: not measured
  bar ≥ 0.9 × hand-written: not measured`
    )
  })

  it("begins with the server and ends with what failed", () => {
    assert.strictEqual(
      Report.heading({ server: "PostgreSQL 18.0, fsync on", messages: 20_000, repetitions: 3 }),
      "PostgreSQL 18.0, fsync on; 20,000 messages; medians of 3, with min to max"
    )
    const error = new Error("3 messages were handled twice")
    assert.strictEqual(
      Report.ending([{ workload: "consume", system: "slow", error }]),
      "\nNot as it had to be:\n  consume, slow: 3 messages were handled twice"
    )
    assert.strictEqual(Report.ending([]), "\nEvery message was stored, handled and applied once.")
  })

  it("is one line of JSON for programs, with null for what was not measured", () => {
    const none = { ours: null, bestPeer: null, peer: null, limit: null, ratioPeer: null, ratioLimit: null }
    assert.notInclude(Report.json(lines), "\n")
    assert.deepStrictEqual(JSON.parse(Report.json(lines)), {
      rows: [Report.compare(measured), { workload: "publish", ...none }]
    })
  })
})

describe("statistics", () => {
  it("of repetitions", () => {
    assert.strictEqual(median([3, 1, 2]), 2)
    assert.strictEqual(median([4, 1, 2, 3]), 2.5)
    assert.strictEqual(percentile([4, 1, 2, 3], 0.5), 2)
    assert.strictEqual(
      percentile(
        Array.from({ length: 200 }, (_, n) => n),
        0.99
      ),
      197
    )
  })
})
