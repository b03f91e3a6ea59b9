/** Delayed delivery in memory, under a test clock: when, in which order, and in whose transaction. */
import { assert, describe, it } from "@effect/vitest"
import {
  AtLeastOnce,
  AtMostOnce,
  Channel,
  Consumer,
  DelayedDelivery,
  ExactlyOnce,
  type Guarantee,
  MemoryStore,
  Producer,
  Surety,
  Topic,
  Transport
} from "@surety/core"
import { Clock, DateTime, Effect, Layer, Queue, Schema } from "effect"
import { TestClock } from "effect/testing"
import { Broken, during, lag, layerNode, letters, note, notes, quiet, seen } from "./support.ts"

const live = Surety.layerMemory

/** A consumer of notes that tells what it handles. */
const reading = <G extends Guarantee.Name>(topic: ReturnType<typeof notes<G>>, handled: Queue.Queue<string>) =>
  Consumer.make(topic, { group: "readers", handler: (_, envelope) => Queue.offer(handled, seen(envelope)) })

for (const guarantee of ["at-most-once", "at-least-once", "exactly-once"] as const) {
  const Notes = notes(guarantee)

  describe(`a delayed ${guarantee} message`, () => {
    it.effect("is acknowledged at once, and readable not before its time", () =>
      Effect.gen(function* () {
        const handled = yield* Queue.unbounded<string>()
        yield* during(
          reading(Notes, handled),
          Effect.gen(function* () {
            const receipt = yield* Producer.publish(Notes, note("late"), { delay: "1 minute" })
            assert.deepStrictEqual(receipt, { id: "late", state: "stored" })
            yield* Producer.publish(Notes, note("early"))
            assert.strictEqual(yield* Queue.take(handled), "early#1")
            yield* TestClock.adjust("59999 millis")
            yield* quiet
            assert.deepStrictEqual(yield* Queue.clear(handled), [])
            assert.strictEqual(yield* lag("notes", "readers"), 0)
            yield* TestClock.adjust("1 millis")
            assert.strictEqual(yield* Queue.take(handled), "late#1")
          })
        )
      }).pipe(Effect.provide(live))
    )

    it.effect("comes by due time, then in publish order", () =>
      Effect.gen(function* () {
        const handled = yield* Queue.unbounded<string>()
        const start = yield* Clock.currentTimeMillis
        yield* Producer.publish(Notes, note("c", "k"), { deliverAt: start + 3000 })
        yield* Producer.publishAll(Notes, [note("a", "k"), note("b", "k")], { deliverAt: new Date(start + 1000) })
        yield* Producer.publish(Notes, note("d", "k"), { delay: "3 seconds" })
        yield* Producer.publish(Notes, note("past", "k"), { deliverAt: DateTime.makeUnsafe(start - 5000) })
        yield* Producer.publish(Notes, note("b2", "k"), { deliverAt: start + 1000 })
        yield* TestClock.adjust("1 hour")
        yield* during(
          reading(Notes, handled),
          Effect.gen(function* () {
            yield* quiet
            assert.deepStrictEqual(yield* Queue.clear(handled), ["past#1", "a#1", "b#1", "b2#1", "c#1", "d#1"])
          })
        )
      }).pipe(Effect.provide(live))
    )
  })
}

describe("in a handler", () => {
  const Notes = notes("exactly-once")
  const reminders = <const G extends Guarantee.Name>(guarantee: G) =>
    Topic.make("reminders", { schema: Schema.String, guarantee, id: (text) => text, partitions: 1 })

  for (const guarantee of ["at-most-once", "at-least-once", "exactly-once"] as const) {
    const Reminders = reminders(guarantee)

    it.effect(`a delayed ${guarantee} message leaves with the transaction, and not without it`, () =>
      Effect.gen(function* () {
        const handled = yield* Queue.unbounded<string>()
        const consumer = Consumer.make(Notes, {
          group: "g",
          handler: ({ id }) =>
            Effect.gen(function* () {
              const { state } = yield* Producer.publish(Reminders, `${id} later`, { delay: "10 minutes" })
              assert.strictEqual(state, "joined")
              yield* Producer.publish(Reminders, `${id} now`)
              if (id === "bad") return yield* new Broken()
            })
        }).pipe(Consumer.orDeadLetter)
        const readers = Consumer.make(Reminders, {
          group: "readers",
          handler: (text) => Queue.offer(handled, text)
        })
        yield* Effect.gen(function* () {
          yield* Producer.publishAll(Notes, [note("bad"), note("good")])
          assert.strictEqual(yield* Queue.take(handled), "good now")
          yield* TestClock.adjust("599999 millis")
          yield* quiet
          assert.deepStrictEqual(yield* Queue.clear(handled), [])
          yield* TestClock.adjust("1 hour")
          yield* quiet
          assert.deepStrictEqual(yield* Queue.clear(handled), ["good later"])
          assert.lengthOf(yield* letters(), 1)
        }).pipe(
          (body) => during(consumer, body),
          (body) => during(readers, body)
        )
      }).pipe(Effect.provide(live))
    )
  }
})

describe("delayed copies", () => {
  it.effect("of one id take effect once on an exactly-once topic", () =>
    Effect.gen(function* () {
      const Notes = notes("exactly-once")
      const handled = yield* Queue.unbounded<string>()
      yield* Producer.publish(Notes, note("a"), { delay: "1 minute" })
      yield* Producer.publish(Notes, note("a"), { delay: "2 minutes" })
      yield* during(
        reading(Notes, handled),
        Effect.gen(function* () {
          yield* TestClock.adjust("1 hour")
          yield* quiet
          assert.deepStrictEqual(yield* Queue.clear(handled), ["a#1"])
          assert.strictEqual(yield* lag("notes", "readers"), 0)
        })
      )
    }).pipe(Effect.provide(live))
  )
})

describe("a process that dies", () => {
  it.effect("leaves its delayed messages to the others, each of them once", () =>
    Effect.gen(function* () {
      const Notes = notes("at-least-once")
      const handled = yield* Queue.unbounded<string>()
      const node = { alive: true }
      // Both run on, as two processes do; one of them is cut off from the store.
      const publisher = yield* Layer.build(layerNode(node))
      const others = yield* Layer.build(layerNode({ alive: true }))
      const publish = (id: string) => Producer.publish(Notes, note(id), { delay: "1 minute" })
      yield* Effect.provideContext(publish("a"), publisher)
      node.alive = false
      const error = yield* Effect.flip(Effect.provideContext(publish("b"), publisher)).pipe(
        Effect.raceFirst(Effect.andThen(TestClock.adjust("5 minutes"), Effect.never))
      )
      assert.strictEqual(error.reason._tag, "NotSent")
      yield* during(
        reading(Notes, handled),
        Effect.gen(function* () {
          yield* quiet
          assert.deepStrictEqual(yield* Queue.clear(handled), ["a#1"])
        })
      ).pipe(Effect.provideContext(others))
    }).pipe(Effect.provide(MemoryStore.layer))
  )
})

describe("what cannot be delayed", () => {
  const refused = (options: Producer.Options<any, any>) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Producer.publish(notes("at-least-once"), note("a"), options))
      assert.strictEqual(error.reason._tag, "Invalid")
      return error.message
    }).pipe(Effect.provide(live))

  it.effect("for ever, or to no time, or to two times, is refused", () =>
    Effect.gen(function* () {
      assert.include(yield* refused({ delay: "Infinity" }), "no finite duration")
      assert.include(yield* refused({ delay: 1e16 }), "no finite duration")
      assert.include(yield* refused({ deliverAt: new Date("never") }), "no time")
      assert.include(yield* refused({ deliverAt: Number.NaN }), "no time")
      assert.include(yield* refused({ delay: 1, deliverAt: 1 }), "both delay and deliverAt")
    })
  )

  it.effect("is not sent to another store than its topic's", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Producer.publish(notes("at-least-once"), note("a"), { delay: 1 }))
      assert.include(error.message, "another store")
    }).pipe(Effect.provide([Surety.layerMemory, Layer.fresh(DelayedDelivery.layerMemory)]))
  )

  it.effect("is refused as anything else is: its size, its topic", () =>
    Effect.gen(function* () {
      const Small = notes("at-least-once")
      const large = yield* Effect.flip(Producer.publish(Small, note("a".repeat(2_000_000)), { delay: 1 }))
      assert.include(large.message, "over the limit")
      const empty = yield* Effect.flip(Producer.publish(Small, note(""), { delay: 1 }))
      assert.strictEqual(empty.reason._tag, "Invalid")
    }).pipe(Effect.provide(live))
  )
})

describe("channels", () => {
  class Audit extends Channel.make("Audit") {}

  it.effect("have delayed delivery of their own", () =>
    Effect.gen(function* () {
      const Log = Topic.make("log", {
        schema: Schema.String,
        guarantee: "at-least-once",
        channel: Audit,
        partitions: 1
      })
      const handled = yield* Queue.unbounded<string>()
      yield* Producer.publish(Log, "a", { delay: "1 minute" })
      yield* during(
        Consumer.make(Log, { group: "readers", handler: (text) => Queue.offer(handled, text) }),
        Effect.gen(function* () {
          yield* TestClock.adjust("1 minute")
          assert.strictEqual(yield* Queue.take(handled), "a")
        })
      )
      const audit = yield* Channel.key(DelayedDelivery.DelayedDelivery, Audit)
      assert.notStrictEqual(audit.store, (yield* DelayedDelivery.DelayedDelivery).store)
    }).pipe(Effect.provide(Layer.mergeAll(Surety.layerMemory, Surety.layerMemory.pipe(Channel.on(Audit)))))
  )
})

describe("the guarantees made over it", () => {
  it.effect("share its store", () =>
    Effect.gen(function* () {
      const { store } = yield* DelayedDelivery.DelayedDelivery
      for (const { transport } of [yield* AtMostOnce, yield* AtLeastOnce, yield* ExactlyOnce]) {
        assert.strictEqual(transport.store, store)
      }
      assert.strictEqual((yield* Transport.Transport).store, store)
    }).pipe(Effect.provide(live))
  )
})
