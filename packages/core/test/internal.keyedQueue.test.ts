import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Fiber, Schema } from "effect"
import { TestClock } from "effect/testing"
import { type Item, KeyedQueue } from "../src/internal/engine/keyedQueue.ts"
import { quiet } from "./support.ts"

const item = (offset: number, key?: string, flags: Partial<Item> = {}): Item => ({
  record: {
    id: String(offset),
    key,
    headers: {},
    time: 0,
    payload: new Uint8Array(),
    partition: 0,
    offset,
    attempts: undefined
  },
  parked: false,
  suspect: false,
  counted: false,
  attempt: 1,
  failures: 0,
  notBefore: 0,
  retries: undefined,
  ...flags
})
const suspect = (offset: number, key?: string) => item(offset, key, { suspect: true, counted: true })
const queueOf = (...items: ReadonlyArray<Item>) => {
  const queue = new KeyedQueue()
  queue.offer(items)
  return queue
}
const offsets = (items: ReadonlyArray<Item> | undefined) => items?.map(({ record }) => record.offset)
/** What is taken once there is enough of it; undefined once the queue is closed. */
const take = (queue: KeyedQueue, max: number, patience?: number) =>
  Effect.gen(function* () {
    if (!(yield* queue.ready(max, patience))) return undefined
    return queue.take(max, yield* Clock.currentTimeMillis)
  })
/** What can be taken without waiting; undefined when nothing can. */
const now = (queue: KeyedQueue, max = 1) =>
  Effect.gen(function* () {
    const taking = yield* Effect.forkChild(take(queue, max))
    yield* quiet
    const exit = taking.pollUnsafe()
    if (exit !== undefined) return yield* exit
    yield* Fiber.interrupt(taking)
    return undefined
  })

describe("KeyedQueue", () => {
  it.effect("hands out records of one key one batch at a time, in order", () =>
    Effect.gen(function* () {
      const queue = queueOf(item(1, "a"), item(2, "a"), item(3, "b"))
      const first = yield* now(queue)
      assert.deepStrictEqual(offsets(first), [1])
      assert.deepStrictEqual(offsets(yield* now(queue)), [3])
      assert.isUndefined(yield* now(queue))
      queue.done(first!, [])
      assert.deepStrictEqual(offsets(yield* now(queue)), [2])
      assert.deepStrictEqual([queue.size, queue.inFlight], [2, 2])
    })
  )

  it.effect("keeps a record that comes while its key is in flight behind that", () =>
    Effect.gen(function* () {
      const queue = queueOf(item(1, "a"))
      const first = (yield* now(queue))!
      queue.offer([item(2, "a")])
      assert.isUndefined(yield* now(queue))
      queue.done(first, [])
      assert.deepStrictEqual(offsets(yield* now(queue)), [2])
    })
  )

  it.effect("hands out records without a key in any number", () =>
    Effect.gen(function* () {
      const queue = queueOf(item(1), item(2), item(3))
      assert.deepStrictEqual(offsets(yield* now(queue)), [1])
      assert.deepStrictEqual(offsets(yield* now(queue, 2)), [2, 3])
    })
  )

  it.effect("does not mistake the empty key for none, nor a key for an offset", () =>
    Effect.gen(function* () {
      const queue = queueOf(item(1, ""), item(2, ""), item(3), item(4, "3"))
      assert.deepStrictEqual(offsets(yield* now(queue)), [1])
      assert.deepStrictEqual(offsets(yield* now(queue, 10)), [3, 4])
    })
  )

  it.effect("fills a batch with several records of a key, in order", () =>
    Effect.gen(function* () {
      const queue = queueOf(item(1, "a"), item(2, "b"), item(3, "a"), item(4, "b"))
      assert.deepStrictEqual(offsets(yield* now(queue, 3)), [1, 3, 2])
      assert.isUndefined(yield* now(queue))
    })
  )

  it.effect("keeps the records of a key behind one that waits for a retry, and no others", () =>
    Effect.gen(function* () {
      const queue = queueOf(item(1, "a"), item(2, "a"), item(3, "b"))
      const [first] = (yield* now(queue))!
      first!.notBefore = 1000
      queue.done([first!], [first!])
      assert.deepStrictEqual(offsets(yield* now(queue)), [3])
      const taking = yield* Effect.forkChild(take(queue, 10))
      yield* quiet
      yield* TestClock.adjust(999)
      assert.isUndefined(taking.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(offsets(yield* Fiber.join(taking)), [1, 2])
    })
  )

  it.effect("takes what was deferred again before later records of its key, in order", () =>
    Effect.gen(function* () {
      const queue = queueOf(item(1, "a"), item(2, "a"), item(3, "a"))
      const batch = (yield* now(queue, 3))!
      queue.offer([item(4, "a")])
      queue.done(batch, batch.slice(1))
      assert.strictEqual(queue.size, 3)
      assert.deepStrictEqual(offsets(yield* now(queue, 10)), [2, 3, 4])
    })
  )

  it.effect("hands a suspect out alone: after what is in flight, and before anything else", () =>
    Effect.gen(function* () {
      const queue = queueOf(item(1), suspect(2), item(3))
      const first = (yield* now(queue, 10))!
      assert.deepStrictEqual(offsets(first), [1])
      assert.isUndefined(yield* now(queue, 10))
      queue.done(first, [])
      const second = (yield* now(queue, 10))!
      assert.deepStrictEqual(offsets(second), [2])
      assert.isUndefined(yield* now(queue, 10))
      queue.done(second, [])
      assert.deepStrictEqual(offsets(yield* now(queue, 10)), [3])
    })
  )

  it.effect("lets others go on while a suspect waits for a retry, and handles it alone after that", () =>
    Effect.gen(function* () {
      const queue = queueOf(suspect(1), item(2), item(3))
      const [first] = (yield* now(queue, 10))!
      first!.notBefore = 1000
      queue.done([first!], [first!])
      const others = (yield* now(queue, 1))!
      assert.deepStrictEqual(offsets(others), [2])
      yield* TestClock.adjust(1000)
      assert.deepStrictEqual(offsets(yield* now(queue)), [3])
      assert.isUndefined(yield* now(queue))
      queue.done([others[0]!], [])
      assert.isUndefined(yield* now(queue))
    })
  )

  it.effect("puts a counted record in a batch of its own", () =>
    Effect.gen(function* () {
      const queue = queueOf(item(1, "a", { counted: true }), item(2, "a"), item(3), item(4, "b", { counted: true }))
      assert.deepStrictEqual(offsets(yield* now(queue, 10)), [1])
      assert.deepStrictEqual(offsets(yield* now(queue, 10)), [3])
      assert.deepStrictEqual(offsets(yield* now(queue, 10)), [4])
    })
  )

  it.effect("wakes a taker for a record, and when it is closed", () =>
    Effect.gen(function* () {
      const queue = new KeyedQueue()
      const one = yield* Effect.forkChild(take(queue, 1))
      const two = yield* Effect.forkChild(take(queue, 1))
      yield* quiet
      queue.offer([item(1)])
      assert.deepStrictEqual(offsets(yield* Fiber.join(one)), [1])
      yield* quiet
      assert.isUndefined(two.pollUnsafe())
      queue.close("now")
      assert.isUndefined(yield* Fiber.join(two))
    })
  )

  it.effect("closed at once hands out nothing; closed once empty, what it holds", () =>
    Effect.gen(function* () {
      const one = queueOf(item(1))
      one.close("now")
      assert.isUndefined(yield* take(one, 1))
      const two = queueOf(item(1, "a"), item(2, "a"))
      two.close("once empty")
      const first = (yield* take(two, 1))!
      assert.deepStrictEqual(offsets(first), [1])
      const waiting = yield* Effect.forkChild(take(two, 1))
      yield* quiet
      assert.isUndefined(waiting.pollUnsafe())
      two.done(first, [])
      assert.deepStrictEqual(offsets(yield* Fiber.join(waiting)), [2])
      assert.isUndefined(yield* take(two, 1))
    })
  )

  it.effect.prop(
    "hands out every record once, in the order of its key, never two batches of a key at once",
    {
      keys: Schema.Array(Schema.Literals(["a", "b", "c", ""])),
      max: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 4 })),
      seed: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 1000 }))
    },
    ({ keys, max, seed }) =>
      Effect.gen(function* () {
        let state = seed
        const random = (below: number) => {
          state = (Math.imul(state, 1103515245) + 12345) >>> 1
          return state % below
        }
        const items = keys.map((key, i) =>
          random(4) === 0 ? suspect(i + 1, key || undefined) : item(i + 1, key || undefined)
        )
        const queue = queueOf(...items)
        const ended: Array<Item> = []
        const flying: Array<ReadonlyArray<Item>> = []
        while (ended.length < items.length) {
          if (flying.length < 3 && random(2) === 0 && queue.size > queue.inFlight) {
            const batch = yield* Effect.forkChild(take(queue, max))
            yield* Effect.repeat(Effect.yieldNow, { times: 5 })
            const exit = batch.pollUnsafe()
            if (exit === undefined) yield* Fiber.interrupt(batch)
            else {
              const taken = (yield* exit)!
              const busy = new Set(flying.flat().map(({ record }) => record.key))
              assert.isTrue(taken.length >= 1 && taken.length <= max)
              for (const { record } of taken) assert.isTrue(record.key === undefined || !busy.has(record.key))
              if ([...taken, ...flying.flat()].some(({ suspect }) => suspect)) {
                assert.strictEqual(taken.length + flying.length, 1)
              }
              flying.push(taken)
            }
          } else if (flying.length > 0) {
            const [batch] = flying.splice(random(flying.length), 1)
            const from = random(3) === 0 ? random(batch!.length + 1) : batch!.length
            ended.push(...batch!.slice(0, from))
            queue.done(batch!, batch!.slice(from))
          }
        }
        assert.deepStrictEqual([queue.size, queue.inFlight], [0, 0])
        for (const key of ["a", "b", "c"]) {
          const order = ended.filter(({ record }) => record.key === key).map(({ record }) => record.offset)
          assert.deepStrictEqual(
            order,
            [...order].sort((a, b) => a - b)
          )
        }
        assert.strictEqual(new Set(ended).size, items.length)
      })
  )
})
