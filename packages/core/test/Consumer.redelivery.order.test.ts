/** Order within a key while what keeps its messages aside is slow (invariant 11). */
import { assert, describe, it } from "@effect/vitest"
import { Consumer, Producer, type Transport } from "@surety/core"
import { Deferred, Effect, Queue, Schedule } from "effect"
import { TestClock } from "effect/testing"
import { Busy, during, lag, layerOver, note, notes, quiet, seen, takeN, withAssignments } from "./support.ts"

const Notes = notes("at-least-once")

/** A store whose redelivery waits for `gate` where `slow` says so. */
const slowly = (
  gate: Deferred.Deferred<void>,
  slow: (operation: "park" | "read", offsets: ReadonlyArray<number>) => boolean
) =>
  layerOver(
    withAssignments((assignment) => {
      const real = assignment.redelivery!
      const wait = (operation: "park" | "read", offsets: ReadonlyArray<number>) =>
        Effect.suspend(() => (slow(operation, offsets) ? Deferred.await(gate) : Effect.void))
      const redelivery: Transport.Redelivery = {
        ...real,
        park: (records) =>
          Effect.andThen(
            wait(
              "park",
              records.map(({ offset }) => offset)
            ),
            real.park(records)
          ),
        read: (offsets) => Effect.andThen(wait("read", offsets), real.read(offsets))
      }
      return { redelivery }
    })
  )

describe("a message is not overtaken by a later one of its key", () => {
  it.effect("that was claimed before, and is put in the queue after, it was kept aside", () => {
    const gate = Deferred.makeUnsafe<void>()
    return Effect.gen(function* () {
      const handled = yield* Queue.unbounded<string>()
      const fail = yield* Deferred.make<void>()
      yield* during(
        Consumer.make(Notes, {
          group: "readers",
          concurrency: 2,
          redeliverAfter: "30 seconds",
          handler: (_, envelope) =>
            Effect.gen(function* () {
              yield* Queue.offer(handled, seen(envelope))
              if (envelope.attempt > 1) return
              if (envelope.id === "b1") yield* Deferred.await(fail)
              if (envelope.id === "a1" || envelope.id === "b1") return yield* new Busy({ wait: 0 })
            })
        }).pipe(Consumer.retry(Schedule.spaced("1 minute")), Consumer.orDeadLetter),
        Effect.gen(function* () {
          yield* Producer.publishAll(Notes, [note("a1", "a"), note("b1", "b")])
          yield* takeN(handled, 2)
          yield* quiet
          // a2 follows a1 aside, which takes its time; b2 is claimed with it, and free as long as b1 runs.
          yield* Producer.publishAll(Notes, [note("a2", "a"), note("b2", "b")])
          yield* quiet
          yield* Deferred.succeed(fail, undefined)
          yield* quiet
          yield* Deferred.succeed(gate, undefined)
          yield* quiet
          assert.deepStrictEqual(yield* Queue.clear(handled), [])
          yield* TestClock.adjust("1 minute")
          yield* quiet
          const events = yield* Queue.clear(handled)
          assert.deepStrictEqual(
            events.filter((event) => event.startsWith("b")),
            ["b1#2", "b2#1"]
          )
          assert.deepStrictEqual(
            events.filter((event) => event.startsWith("a")),
            ["a1#2", "a2#1"]
          )
        })
      )
      assert.strictEqual(yield* lag("notes", "readers"), 0)
    }).pipe(Effect.provide(slowly(gate, (operation, offsets) => operation === "park" && offsets.includes(3))))
  })

  it.effect("that is being read back while it fails again", () => {
    const gate = Deferred.makeUnsafe<void>()
    return Effect.gen(function* () {
      const handled = yield* Queue.unbounded<string>()
      const fail = yield* Deferred.make<void>()
      yield* during(
        Consumer.make(Notes, {
          group: "readers",
          concurrency: 2,
          redeliverAfter: "30 seconds",
          handler: (_, envelope) =>
            Effect.gen(function* () {
              yield* Queue.offer(handled, seen(envelope))
              if (envelope.id !== "a1" || envelope.attempt > 2) return
              if (envelope.attempt === 2) yield* Deferred.await(fail)
              return yield* new Busy({ wait: 0 })
            })
        }).pipe(Consumer.retry(Schedule.spaced("1 minute")), Consumer.orDeadLetter),
        Effect.gen(function* () {
          yield* Producer.publish(Notes, note("a1", "a"))
          assert.deepStrictEqual(yield* takeN(handled, 1), ["a1#1"])
          yield* quiet
          yield* TestClock.adjust("1 minute")
          assert.deepStrictEqual(yield* takeN(handled, 1), ["a1#2"])
          // Follows a1 aside, and is read back to wait behind it.
          yield* Producer.publish(Notes, note("a2", "a"))
          yield* quiet
          yield* Deferred.succeed(fail, undefined)
          yield* quiet
          yield* Deferred.succeed(gate, undefined)
          yield* quiet
          assert.deepStrictEqual(yield* Queue.clear(handled), [])
          yield* TestClock.adjust("1 minute")
          assert.deepStrictEqual(yield* takeN(handled, 2), ["a1#3", "a2#1"])
        })
      )
      assert.strictEqual(yield* lag("notes", "readers"), 0)
    }).pipe(Effect.provide(slowly(gate, (operation, offsets) => operation === "read" && offsets.includes(2))))
  })
})
