import { assert, describe, it } from "@effect/vitest"
import { Backend } from "@surety/core"
import { Effect, Fiber, Schema } from "effect"
import { quiet } from "./support.ts"

const record = (id: string, key?: string) => ({ id, key, headers: {}, time: 0, payload: new Uint8Array(3) })

describe("partitionOf", () => {
  it("never changes: records that are stored are where it says", () => {
    // FNV-1a, 32 bits, over UTF-8.
    const vectors: ReadonlyArray<readonly [string, number]> = [
      ["", 0x811c9dc5],
      ["a", 0xe40c292c],
      ["foobar", 0xbf9cf968],
      ["\0", 0x050c5d1f],
      ["a\0b", 0x10f3abd2],
      ["😀", 0x33a29608],
      ["Zürich", 0xd7007f20]
    ]
    for (const [text, hash] of vectors) {
      for (const partitions of [1, 2, 7, 8, 1024]) {
        assert.strictEqual(Backend.partitionOf(record("id", text), partitions), hash % partitions, JSON.stringify(text))
      }
    }
  })

  it("goes by the key, and by the id where there is none", () => {
    assert.strictEqual(Backend.partitionOf(record("a", "k"), 1024), Backend.partitionOf(record("b", "k"), 1024))
    assert.strictEqual(Backend.partitionOf(record("k"), 1024), Backend.partitionOf(record("x", "k"), 1024))
    assert.notStrictEqual(Backend.partitionOf(record("k", ""), 1024), Backend.partitionOf(record("k"), 1024))
  })

  it("spreads ids and keys evenly", () => {
    for (const name of [
      (i: number) => `account-${i}`,
      (i: number) => String(i),
      (i: number) => `00000000-0000-7000-8000-${i.toString(16).padStart(12, "0")}`
    ]) {
      const counts = new Array<number>(8).fill(0)
      for (let i = 0; i < 8000; i++) counts[Backend.partitionOf(record(name(i)), 8)]!++
      for (const count of counts) assert.isTrue(count > 750 && count < 1250, counts.join(" "))
    }
  })
})

describe("recordBytes", () => {
  it("counts the UTF-8 of id, key and headers, and the payload", () => {
    assert.strictEqual(Backend.recordBytes(record("")), 3)
    assert.strictEqual(Backend.recordBytes(record("é", "😀")), 3 + 2 + 4)
    assert.strictEqual(Backend.recordBytes({ ...record("a"), headers: { h: "é", "😀": "" } }), 3 + 1 + 1 + 2 + 4)
  })
})

describe("allowance", () => {
  it.effect.prop(
    "serves every partition exactly once, and differs by one at most",
    {
      partitions: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 1024 })),
      members: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 200 }))
    },
    ({ members, partitions }) =>
      Effect.sync(() => {
        const shares = Array.from({ length: members }, (_, rank) => Backend.allowance(partitions, members, rank))
        assert.strictEqual(
          shares.reduce((a, b) => a + b),
          partitions
        )
        assert.isTrue(Math.max(...shares) - Math.min(...shares) <= 1)
      })
  )
})

describe("Signal", () => {
  it.effect("wakes all who wait", () =>
    Effect.gen(function* () {
      const signal = new Backend.Signal()
      const waiting = yield* Effect.forkChild(
        Effect.all([signal.changed(0), signal.changed(0)], { concurrency: "unbounded" })
      )
      yield* quiet
      assert.isUndefined(waiting.pollUnsafe())
      signal.notify()
      yield* Fiber.join(waiting)
      assert.strictEqual(signal.version, 1)
    })
  )

  it.effect("loses no change between looking and waiting", () =>
    Effect.gen(function* () {
      const signal = new Backend.Signal()
      const seen = signal.version
      signal.notify()
      yield* signal.changed(seen)
    })
  )

  it.effect("wakes by a change that a woken one makes", () =>
    Effect.gen(function* () {
      const signal = new Backend.Signal()
      const first = yield* Effect.forkChild(
        Effect.andThen(
          signal.changed(0),
          Effect.sync(() => signal.notify())
        )
      )
      const second = yield* Effect.forkChild(Effect.andThen(signal.changed(0), signal.changed(1)))
      yield* quiet
      signal.notify()
      yield* Fiber.join(first)
      yield* Fiber.join(second)
    })
  )

  it.effect("forgets those who have stopped waiting", () =>
    Effect.gen(function* () {
      const signal = new Backend.Signal()
      const waiting = yield* Effect.forkChild(signal.changed(0))
      yield* quiet
      yield* Fiber.interrupt(waiting)
      signal.notify()
      yield* signal.changed(0)
    })
  )
})
