import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Delivering, Part } from "../src/system.ts"
import { delivering } from "../src/workloads/delivering.ts"
import { publishing } from "../src/workloads/publishing.ts"

const size = { messages: 100, quick: true }

/** A system that stores so many messages, of which so many are different ones, whatever is published. */
const storing = (total: number, distinct: number) =>
  publishing(
    {
      settings: "",
      begin: Effect.succeed({ publish: () => Effect.void, stored: Effect.succeed({ total, distinct }) })
    },
    size
  )!.measure

describe("a run that publishes", () => {
  it.live("is a rate when each message is stored once", () =>
    Effect.gen(function* () {
      const [rate] = yield* storing(100, 100)
      assert.isAbove(rate!, 0)
    })
  )

  it.live.each([
    [99, 99],
    [101, 100],
    [100, 99]
  ] as const)("is wrong when %i are stored, %i different ones", ([total, distinct]) =>
    Effect.gen(function* () {
      const { message } = yield* Effect.flip(storing(total, distinct) as Effect.Effect<unknown, Error>)
      assert.strictEqual(message, `of 100 messages ${distinct} are stored, ${total} times`)
    })
  )

  it("does not exist for a system that has no means for it", () => {
    assert.isUndefined(publishing(undefined, size))
  })
})

describe("a run that delivers", () => {
  /** Hands over what is published at once, so many times. */
  const handing = (times: number): Part<Delivering> => ({
    settings: "",
    begin: Effect.sync(() => {
      let handled: Parameters<Delivering["consume"]>[0]["handled"] = () => {}
      return {
        consume: (watch) =>
          Effect.sync(() => {
            handled = watch.handled
          }),
        publish: (message) =>
          Effect.sync(() => {
            for (let i = 0; i < times; i++) handled(message)
          })
      }
    })
  })

  /** Of which 100 are published. */
  const paced = { messages: 4000, quick: true }

  it.live("is wrong when messages are handled twice", () =>
    Effect.gen(function* () {
      const [p50, p99] = yield* delivering(handing(1), paced)
      assert.isAtMost(p50, p99)
      const { message } = yield* Effect.flip(delivering(handing(2), paced) as Effect.Effect<unknown, Error>)
      // It ends with the last message, so that the second time of that one is not seen.
      assert.strictEqual(message, "of 100 messages 100 were handled, 99 of them twice")
    })
  )
})
