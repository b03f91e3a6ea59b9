/** Messages of other programs, as a transport hands them over: without an id, and with whatever headers they have. */
import { assert, describe, it } from "@effect/vitest"
import { Consumer, DeadLetters, type Envelope, Surety, Topic, Transport } from "@surety/core"
import { Effect, Layer, Queue, Schema, Tracer } from "effect"
import { identify, isAnonymous } from "../src/internal/foreign.ts"
import { during, layerOver, letters, quiet } from "./support.ts"

const raw = (fields: Partial<Envelope.EncodedRecord> = {}): Envelope.EncodedRecord => ({
  id: "",
  key: undefined,
  headers: {},
  time: 5,
  payload: new TextEncoder().encode(`"hello"`),
  ...fields
})

const stored = (fields: Partial<Envelope.EncodedRecord> = {}): Envelope.StoredRecord => ({
  ...raw(fields),
  partition: 2,
  offset: 7
})

const event = { ce_specversion: "1.0", ce_id: "1", ce_source: "/shop", ce_type: "sold" }

const topicOf = (foreign?: Topic.Foreign) =>
  Topic.make("greetings", {
    schema: Schema.String,
    guarantee: "exactly-once",
    id: (text) => text,
    partitions: 1,
    foreign
  })

const ids = (topic: ReturnType<typeof topicOf>, queue: Queue.Queue<string>) =>
  Consumer.make(topic, { group: "readers", handler: (_, { id }) => Queue.offer(queue, id) })

describe("a message without an id", () => {
  it.effect("is redriven from the dead letters once its topic is declared to take it", () =>
    Effect.gen(function* () {
      const transport = yield* Transport.Transport
      const deadLetters = yield* DeadLetters.DeadLetters
      const handled = yield* Queue.unbounded<string>()
      yield* transport.publish(Topic.declaration(topicOf()), [raw()])
      yield* during(ids(topicOf(), handled), quiet)
      // Redriven too early, it is a dead letter again.
      yield* deadLetters.redrive()
      yield* during(ids(topicOf("dead-letter"), handled), quiet)
      const found = yield* letters()
      assert.deepStrictEqual(
        found.map(({ attempts, failure, record }) => [record.id, failure.tag, attempts]),
        [["greetings/0/1", "MissingId", 0]]
      )
      assert.include(found[0]!.failure.message, `foreign: "consume"`)
      yield* deadLetters.redrive()
      yield* during(
        ids(topicOf("consume"), handled),
        Effect.gen(function* () {
          assert.strictEqual(yield* Queue.take(handled), "greetings/0/1")
        })
      )
      assert.deepStrictEqual(yield* letters(), [])
    }).pipe(Effect.provide(Surety.layerMemory))
  )

  it.effect("that is consumed is among the assumptions of exactly-once, and of nothing else", () =>
    Effect.gen(function* () {
      const assumed = (topic: Topic.Any) =>
        Surety.explain(
          Consumer.layer(Consumer.make(topic, { group: "readers", handler: () => Effect.void })).pipe(
            Layer.provide(layerOver(({ characteristics }) => ({ characteristics: { ...characteristics, gaps: [] } })))
          )
        ).pipe(Effect.map(({ topics }) => topics[0]!.assumptions.map(({ holds, link }) => `${link}: ${holds}`)))
      assert.deepStrictEqual(yield* assumed(topicOf()), [])
      assert.deepStrictEqual(yield* assumed(topicOf("consume")), [
        "Topic.make: no other program publishes a message twice without an id"
      ])
      const atLeastOnce = Topic.make("other", { schema: Schema.String, guarantee: "at-least-once", foreign: "consume" })
      assert.deepStrictEqual(yield* assumed(atLeastOnce), [])
    })
  )

  it("is told apart from one whose id looks like another's place", () => {
    assert.isTrue(isAnonymous("t", identify("t", stored())))
    assert.isFalse(isAnonymous("t", stored({ id: "t/2/8" })))
    assert.isFalse(isAnonymous("t", stored({ id: "mine" })))
    assert.strictEqual(identify("t", stored({ id: "mine", headers: event })).id, "mine")
  })

  it.effect("is linked to the trace that its headers name", () =>
    Effect.gen(function* () {
      const trace = (byte: string) => `00-${byte.repeat(32)}-${"b".repeat(16)}-01`
      const links: Array<string> = []
      const tracer = Tracer.make({
        span: (options) => {
          links.push(...options.links.map(({ span }) => span.traceId))
          return new Tracer.NativeSpan(options)
        }
      })
      const transport = yield* Transport.Transport
      yield* transport.publish(Topic.declaration(topicOf()), [
        raw({ headers: { traceparent: trace("1"), ce_traceparent: trace("2") } }),
        raw({ headers: { ...event, ce_traceparent: trace("3") } })
      ])
      yield* during(
        Consumer.make(topicOf("consume"), { group: "readers", batchSize: 1, handler: () => Effect.void }),
        quiet
      ).pipe(Effect.withTracer(tracer))
      assert.deepStrictEqual(links, ["1".repeat(32), "3".repeat(32)])
    }).pipe(Effect.provide(Surety.layerMemory))
  )
})

describe("a CloudEvent", () => {
  it("has an id of its source and its id, and keeps the transport's key", () => {
    const found = identify("t", stored({ key: "k", headers: { ...event, ce_partitionkey: "other" } }))
    assert.deepStrictEqual([found.id, found.key, found.time], ["/shop 1", "k", 5])
  })

  it("has the time that it says, where that is one", () => {
    for (const [ce_time, time] of [
      ["2026-01-02T03:04:05.678+01:00", Date.UTC(2026, 0, 2, 2, 4, 5, 678)],
      ["yesterday", 5],
      ["2026-13-45T00:00:00Z", 5],
      ["-200000-01-01T00:00:00Z", 5],
      ["", 5]
    ] as const) {
      assert.strictEqual(identify("t", stored({ headers: { ...event, ce_time } })).time, time)
    }
  })

  it("is a message without an id where one of its attributes is missing, or could make its id another's", () => {
    for (const headers of [
      { ...event, ce_id: "" },
      { ...event, ce_specversion: "0.3" },
      { ...event, ce_source: "/shop 1", ce_id: "2" }
    ]) {
      assert.strictEqual(identify("t", stored({ headers })).id, "t/2/7")
    }
  })
})
