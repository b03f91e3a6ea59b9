/** Retention in memory, under a test clock: what is forgotten, and what must not be (POSTGRES.md, rules 20 and 22). */
import { assert, describe, it } from "@effect/vitest"
import { Consumer, DeadLetters, MemoryStore, Producer, Surety, Topic, Transport } from "@surety/core"
import { Deferred, Effect, Layer, Queue, Schedule } from "effect"
import { TestClock } from "effect/testing"
import { Broken, Busy, during, lag, letters, note, notes, quiet, seen, takeN } from "./support.ts"

/** Settled ids are remembered for an hour, and the log for as long as it may be. With a long lease, a day has few heartbeats. */
const live = Surety.layerMemory.pipe(
  Layer.provide(MemoryStore.options({ lease: "5 minutes", retention: { log: "50 minutes", inbox: "1 hour" } }))
)

const Notes = notes("exactly-once")

const reading = (handled: Queue.Queue<string>, group = "readers") =>
  Consumer.make(Notes, { group, handler: (_, envelope) => Queue.offer(handled, seen(envelope)) })

/** What a group that is new finds in the log. */
const left = Effect.gen(function* () {
  const handled = yield* Queue.unbounded<string>()
  return yield* during(reading(handled, "newcomers"), Effect.andThen(quiet, Queue.clear(handled)))
})

describe("the log", () => {
  it.effect("drops what is older than its retention, once every group has settled it", () =>
    Effect.gen(function* () {
      const handled = yield* Queue.unbounded<string>()
      yield* Producer.publishAll(Notes, [note("a"), note("b")])
      yield* during(
        reading(handled),
        Effect.gen(function* () {
          yield* takeN(handled, 2)
          yield* TestClock.adjust("50 minutes")
          yield* Producer.publish(Notes, note("c"))
          yield* takeN(handled, 1)
          yield* TestClock.adjust("1 millis")
          yield* Producer.publish(Notes, note("d"))
          yield* takeN(handled, 1)
          yield* quiet
          assert.strictEqual(yield* lag("notes", "readers"), 0)
        })
      )
      assert.deepStrictEqual(yield* left, ["c#1", "d#1"])
      assert.strictEqual(yield* lag("notes", "newcomers"), 0)
    }).pipe(Effect.provide(live))
  )

  it.effect("keeps what a group has not settled, whether or not anybody serves it", () =>
    Effect.gen(function* () {
      const handled = yield* Queue.unbounded<string>()
      yield* during(reading(handled, "gone"), Effect.void)
      yield* Producer.publishAll(Notes, [note("a"), note("b")])
      yield* during(reading(handled), Effect.andThen(takeN(handled, 2), quiet))
      yield* TestClock.adjust("10 hours")
      yield* Producer.publish(Notes, note("c"))
      yield* during(
        reading(handled, "gone"),
        Effect.map(takeN(handled, 3), (ids) => assert.deepStrictEqual(ids, ["a#1", "b#1", "c#1"]))
      )
    }).pipe(Effect.provide(live))
  )

  it.effect("may drop what waits for a retry, or was dead-lettered: it is kept apart, whole", () =>
    Effect.gen(function* () {
      const handled = yield* Queue.unbounded<string>()
      const refuse = { bad: true }
      const consumer = Consumer.make(Notes, {
        group: "readers",
        redeliverAfter: 0,
        handler: ({ id }, envelope) =>
          Effect.gen(function* () {
            if (id === "busy" && envelope.attempt === 1) return yield* new Busy({ wait: 0 })
            if (id === "bad" && refuse.bad) return yield* new Broken()
            yield* Queue.offer(handled, `${seen(envelope)} ${envelope.key}`)
          })
      }).pipe(Consumer.retry("Busy", Schedule.spaced("5 hours")), Consumer.orDeadLetter)
      yield* during(
        consumer,
        Effect.gen(function* () {
          yield* Producer.publishAll(Notes, [note("busy", "k"), note("bad", "l"), note("behind", "k")])
          yield* quiet
          assert.lengthOf(yield* letters(), 1)
          yield* TestClock.adjust("4 hours")
          yield* Producer.publish(Notes, note("new", "m"))
          assert.deepStrictEqual(yield* takeN(handled, 1), ["new#1 m"])
          refuse.bad = false
          const deadLetters = yield* DeadLetters.DeadLetters
          yield* deadLetters.redrive()
          assert.deepStrictEqual(yield* takeN(handled, 1), ["bad#1 l"])
          yield* TestClock.adjust("2 hours")
          assert.deepStrictEqual(yield* takeN(handled, 2), ["busy#2 k", "behind#1 k"])
        })
      )
      assert.deepStrictEqual(yield* left, ["new#1"])
    }).pipe(Effect.provide(live))
  )
})

describe("the inbox", () => {
  it.effect("remembers for its retention, and takes an id anew after it", () =>
    Effect.gen(function* () {
      const handled = yield* Queue.unbounded<string>()
      yield* during(
        reading(handled),
        Effect.gen(function* () {
          yield* Producer.publish(Notes, note("a"))
          assert.deepStrictEqual(yield* takeN(handled, 1), ["a#1"])
          yield* TestClock.adjust("59 minutes")
          yield* Producer.publishAll(Notes, [note("a"), note("b")])
          assert.deepStrictEqual(yield* takeN(handled, 1), ["b#1"])
          yield* TestClock.adjust("7 minutes")
          // Forgotten when something new comes.
          yield* Producer.publish(Notes, note("c"))
          yield* takeN(handled, 1)
          yield* Producer.publishAll(Notes, [note("a"), note("b")])
          assert.deepStrictEqual(yield* takeN(handled, 1), ["a#1"])
          yield* quiet
          assert.deepStrictEqual(yield* Queue.clear(handled), [])
        })
      )
    }).pipe(Effect.provide(live))
  )

  it.effect("remembers for longer what may have a copy that nobody has handled yet", () =>
    Effect.gen(function* () {
      const handled = yield* Queue.unbounded<string>()
      yield* Producer.publish(Notes, note("a"))
      yield* during(reading(handled), takeN(handled, 1))
      yield* TestClock.adjust("30 minutes")
      // The copy comes in time, and waits for a day.
      yield* Producer.publishAll(Notes, [note("b"), note("a")])
      yield* TestClock.adjust("1 day")
      yield* during(
        reading(handled),
        Effect.gen(function* () {
          yield* takeN(handled, 1)
          yield* quiet
          assert.deepStrictEqual(yield* Queue.clear(handled), [])
          assert.strictEqual(yield* lag("notes", "readers"), 0)
        })
      )
    }).pipe(Effect.provide(live))
  )

  it.effect("remembers for longer while a copy waits behind a retry", () =>
    Effect.gen(function* () {
      const handled = yield* Queue.unbounded<string>()
      const consumer = Consumer.make(Notes, {
        group: "readers",
        redeliverAfter: 0,
        handler: ({ id }, envelope) =>
          id === "busy" && envelope.attempt === 1
            ? Effect.andThen(Queue.offer(handled, "busy"), new Busy({ wait: 0 }))
            : Queue.offer(handled, seen(envelope))
      }).pipe(Consumer.retry("Busy", Schedule.spaced("1 day")), Consumer.orDeadLetter)
      yield* during(
        consumer,
        Effect.gen(function* () {
          yield* Producer.publish(Notes, note("a", "k"))
          yield* takeN(handled, 1)
          yield* TestClock.adjust("30 minutes")
          yield* Producer.publishAll(Notes, [note("busy", "k"), note("a", "k")])
          yield* quiet
          assert.include(yield* Queue.clear(handled), "busy")
          // Two hours later others are settled, which is when the inbox would forget.
          yield* TestClock.adjust("2 hours")
          yield* Producer.publish(Notes, note("b"))
          assert.deepStrictEqual(yield* takeN(handled, 1), ["b#1"])
          yield* TestClock.adjust("1 day")
          assert.deepStrictEqual(yield* takeN(handled, 1), ["busy#2"])
          yield* quiet
          assert.deepStrictEqual(yield* Queue.clear(handled), [])
          assert.strictEqual(yield* lag("notes", "readers"), 0)
        })
      )
    }).pipe(Effect.provide(live))
  )

  it.effect("keeps the ids of dead letters, which a redrive opens again, once", () =>
    Effect.gen(function* () {
      const handled = yield* Queue.unbounded<string>()
      const refuse = { bad: true }
      const consumer = Consumer.make(Notes, {
        group: "readers",
        handler: ({ id }, envelope) =>
          id === "bad" && refuse.bad ? Effect.fail(new Broken()) : Queue.offer(handled, seen(envelope))
      }).pipe(Consumer.orDeadLetter)
      yield* during(
        consumer,
        Effect.gen(function* () {
          yield* Producer.publishAll(Notes, [note("bad"), note("a")])
          yield* takeN(handled, 1)
          yield* TestClock.adjust("1 day")
          refuse.bad = false
          // A copy, long after: settled already, as dead.
          yield* Producer.publishAll(Notes, [note("bad"), note("b")])
          assert.deepStrictEqual(yield* takeN(handled, 1), ["b#1"])
          const deadLetters = yield* DeadLetters.DeadLetters
          assert.strictEqual(yield* deadLetters.redrive(), 1)
          assert.deepStrictEqual(yield* takeN(handled, 1), ["bad#1"])
          yield* quiet
          assert.deepStrictEqual(yield* Queue.clear(handled), [])
        })
      )
    }).pipe(Effect.provide(live))
  )
})

describe("without retention", () => {
  it.effect("nothing is forgotten", () =>
    Effect.gen(function* () {
      const handled = yield* Queue.unbounded<string>()
      yield* Producer.publish(Notes, note("a"))
      yield* during(reading(handled), takeN(handled, 1))
      yield* TestClock.adjust("10000 days")
      yield* Producer.publishAll(Notes, [note("a"), note("b")])
      assert.deepStrictEqual(yield* during(reading(handled), takeN(handled, 1)), ["b#1"])
      assert.deepStrictEqual(yield* left, ["a#1", "b#1"])
      const { bounds } = yield* Transport.Transport
      assert.strictEqual(bounds?.retention, "forever")
    }).pipe(Effect.provide(Surety.layerMemory))
  )
})

describe("at-most-once topics", () => {
  it.effect("are trimmed as well", () =>
    Effect.gen(function* () {
      const Metrics = Topic.make("metrics", { schema: Notes.schema, guarantee: "at-most-once", partitions: 1 })
      yield* Producer.publish(Metrics, note("a"))
      yield* TestClock.adjust("1 hour")
      yield* Producer.publish(Metrics, note("b"))
      const first = yield* Deferred.make<string>()
      yield* during(
        Consumer.make(Metrics, { group: "readers", handler: ({ id }) => Deferred.succeed(first, id) }),
        Effect.map(Deferred.await(first), (id) => assert.strictEqual(id, "b"))
      )
    }).pipe(Effect.provide(live))
  )
})
