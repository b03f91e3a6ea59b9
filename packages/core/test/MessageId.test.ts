import { assert, describe, it } from "@effect/vitest"
import { MessageId, Producer, Surety, Topic } from "@surety/core"
import { Effect, Layer, Ref, Schema } from "effect"
import { TestClock } from "effect/testing"

const Plain = Topic.make("plain", { schema: Schema.String, guarantee: "at-least-once" })
const Named = Topic.make("named", { schema: Schema.String, guarantee: "at-least-once", id: (text) => `id of ${text}` })

const next = Effect.flatMap(MessageId.MessageId, ({ next }) => next)
const timeOf = (id: string) => Number.parseInt(id.replaceAll("-", "").slice(0, 12), 16)

describe("MessageId", () => {
  it.effect("is a UUIDv7", () =>
    Effect.gen(function* () {
      assert.match(yield* next, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    })
  )

  it.effect("takes its time from Effect's Clock", () =>
    Effect.gen(function* () {
      // Later than any time the generator of this process has seen: it never goes back.
      const time = Date.UTC(2200, 0, 1)
      yield* TestClock.setTime(time)
      assert.strictEqual(timeOf(yield* next), time)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(timeOf(yield* next), time + 60_000)
    })
  )

  it.effect("grows, within a millisecond and when the clock goes back", () =>
    Effect.gen(function* () {
      const ids: Array<string> = []
      for (let i = 0; i < 10_000; i++) {
        if (i === 5000) yield* TestClock.setTime(0)
        ids.push(yield* next)
      }
      assert.deepStrictEqual([...new Set(ids)].sort(), ids)
    })
  )

  it.effect("is asked for once per message, and not where the topic or the publish names an id", () =>
    Effect.gen(function* () {
      const count = yield* Ref.make(0)
      const layer = MessageId.layer(
        Effect.map(
          Ref.updateAndGet(count, (n) => n + 1),
          (n) => `m${n}`
        )
      )
      const receipts = yield* Effect.gen(function* () {
        return [
          ...(yield* Producer.publishAll(Plain, ["a", "b"])),
          yield* Producer.publish(Named, "c"),
          yield* Producer.publish(Plain, "d", { id: "mine" }),
          yield* Producer.publish(Plain, "e")
        ]
      }).pipe(Effect.provide(Layer.merge(Surety.layerMemory, layer)))
      assert.deepStrictEqual(
        receipts.map(({ id }) => id),
        ["m1", "m2", "id of c", "mine", "m3"]
      )
    })
  )
})
