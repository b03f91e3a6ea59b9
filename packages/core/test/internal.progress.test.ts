import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Progress } from "../src/internal/engine/progress.ts"

const claimed = (from: number, ...offsets: ReadonlyArray<number>) => {
  const progress = new Progress(from)
  for (const offset of offsets) progress.claim(offset)
  return progress
}

describe("Progress", () => {
  it("reaches as far as everything before is settled", () => {
    const progress = claimed(4, 5, 6, 9)
    assert.strictEqual(progress.reached, 4)
    progress.settle(6)
    assert.strictEqual(progress.reached, 4)
    progress.settle(5)
    assert.strictEqual(progress.reached, 6)
    // A log may have gaps: what was never claimed is not waited for.
    progress.settle(9)
    assert.strictEqual(progress.reached, 9)
    progress.claim(11)
    assert.strictEqual(progress.reached, 9)
  })

  it("tells what would be reached with others, without settling them", () => {
    const progress = claimed(0, 1, 2, 3, 4)
    progress.settle(2)
    assert.strictEqual(progress.reachedWith(new Set([1])), 2)
    assert.strictEqual(progress.reachedWith(new Set([1, 3])), 3)
    assert.strictEqual(progress.reachedWith(new Set([3, 4])), 0)
    assert.strictEqual(progress.reachedWith(new Set()), 0)
    assert.strictEqual(progress.reached, 0)
  })

  it("holds as it forgets what it has passed", () => {
    const progress = new Progress(0)
    for (let offset = 1; offset <= 10_000; offset++) {
      progress.claim(offset)
      if (offset > 3) progress.settle(offset - 3)
    }
    assert.strictEqual(progress.reached, 9_997)
    assert.strictEqual(progress.reachedWith(new Set([9_998, 9_999])), 9_999)
  })

  it.effect.prop(
    "agrees with the obvious definition, in any order of settling",
    { gaps: Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 4 }))), seed: Schema.Int },
    ({ gaps, seed }) =>
      Effect.sync(() => {
        let last = 0
        const offsets = gaps.map((gap) => (last += gap))
        const order = offsets.map((offset, i) => [Math.sin(seed + i), offset] as const).sort(([a], [b]) => a - b)
        const progress = claimed(0, ...offsets)
        const settled = new Set<number>()
        const reachedBy = (set: ReadonlySet<number>) => {
          const open = offsets.find((offset) => !set.has(offset))
          return offsets.filter((offset) => open === undefined || offset < open).at(-1) ?? 0
        }
        for (const [, offset] of order) {
          assert.strictEqual(progress.reachedWith(new Set([offset])), reachedBy(new Set([...settled, offset])))
          progress.settle(offset)
          settled.add(offset)
          assert.strictEqual(progress.reached, reachedBy(settled))
        }
        assert.strictEqual(progress.reached, last)
      })
  )
})
