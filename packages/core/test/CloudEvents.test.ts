import { assert, describe, it } from "@effect/vitest"
import { CloudEvents, Consumer, Producer, Surety } from "@surety/core"
import { Effect, Layer, Option, Queue } from "effect"
import { TestClock } from "effect/testing"
import { during, note, notes } from "./support.ts"

const Notes = notes("exactly-once")

describe("CloudEvents", () => {
  it.effect("are headers beside the payload, the same at every hop", () =>
    Effect.gen(function* () {
      const headers = yield* Queue.unbounded<Readonly<Record<string, string>>>()
      yield* TestClock.setTime(Date.UTC(2026, 0, 2, 3, 4, 5, 678))
      yield* Producer.publish(Notes, note("one", "key"))
      yield* Producer.publish(Notes, note("two"), { headers: { ce_type: "mine", ce_traceid: "t" } })
      yield* during(
        Consumer.make(Notes, { group: "readers", handler: (_, envelope) => Queue.offer(headers, envelope.headers) }),
        Effect.gen(function* () {
          const first = yield* Queue.take(headers)
          assert.deepStrictEqual(first, {
            "content-type": "application/json",
            ce_specversion: "1.0",
            ce_id: "one",
            ce_source: "/notes",
            ce_type: "com.example.notes",
            ce_time: "2026-01-02T03:04:05.678Z",
            ce_partitionkey: "key"
          })
          assert.deepStrictEqual(Option.getOrThrow(CloudEvents.attributes({ headers: first })), {
            id: "one",
            source: "/notes",
            type: "com.example.notes",
            time: "2026-01-02T03:04:05.678Z",
            subject: undefined,
            extensions: { partitionkey: "key" }
          })
          const second = Option.getOrThrow(CloudEvents.attributes({ headers: yield* Queue.take(headers) }))
          assert.strictEqual(second.type, "mine")
          assert.deepStrictEqual(second.extensions, { traceid: "t" })
        })
      )
    }).pipe(
      Effect.provide(
        Layer.merge(
          Surety.layerMemory,
          CloudEvents.layer({ source: "/notes", type: (topic) => `com.example.${topic}` })
        )
      )
    )
  )

  it("are none where a required attribute is missing, or the version is another", () => {
    const headers = { ce_specversion: "1.0", ce_id: "1", ce_source: "/", ce_type: "t" }
    assert.isTrue(Option.isSome(CloudEvents.attributes({ headers })))
    for (const name of Object.keys(headers)) {
      const { [name as keyof typeof headers]: _, ...rest } = headers
      assert.isTrue(Option.isNone(CloudEvents.attributes({ headers: rest })))
    }
    assert.isTrue(Option.isNone(CloudEvents.attributes({ headers: { ...headers, ce_specversion: "2.0" } })))
  })
})
