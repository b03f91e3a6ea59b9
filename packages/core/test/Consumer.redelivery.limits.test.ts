/** What is kept aside, in batches, in numbers, and for very long (invariants 4, 11, 22). */
import { assert, describe, it } from "@effect/vitest"
import { Consumer, DeadLetters, Producer, Surety, type Transport } from "@surety/core"
import { Deferred, Duration, Effect, Queue, Schedule } from "effect"
import { TestClock } from "effect/testing"
import { Parking } from "../src/internal/engine/parking.ts"
import { Broken, Busy, during, lag, layerOver, letters, note, notes, quiet, takeN, withAssignments } from "./support.ts"

describe("a message of a batch", () => {
  for (const guarantee of ["at-least-once", "exactly-once"] as const) {
    it.effect(`${guarantee}, is not overtaken when its batch outlasts the delay of an earlier one of its key`, () =>
      Effect.gen(function* () {
        const Notes = notes(guarantee)
        const handled = yield* Queue.unbounded<string>()
        const slow = yield* Deferred.make<void>()
        const failures = { left: guarantee === "exactly-once" ? 2 : 1 }
        yield* Producer.publishAll(Notes, [note("a1", "a"), note("a2", "a"), note("b", "b")])
        const run = (id: string) =>
          Effect.gen(function* () {
            if (id === "b") yield* Deferred.await(slow)
            if (id === "a1" && failures.left-- > 0) return yield* new Busy({ wait: 0 })
            yield* Queue.offer(handled, id)
          })
        const options = { group: "readers", redeliverAfter: "30 seconds" } as const
        const consumer =
          guarantee === "exactly-once"
            ? Consumer.make(Notes, { ...options, batchSize: 3, handler: ({ id }) => run(id) })
            : Consumer.makeBatch(Notes, {
                ...options,
                handler: (messages) =>
                  messages.length > 1 && messages.some(({ id }) => id === "a1")
                    ? new Busy({ wait: 0 })
                    : Effect.forEach(messages, ({ id }) => run(id))
              })
        yield* during(
          consumer.pipe(Consumer.retry(Schedule.spaced("1 minute")), Consumer.orDeadLetter),
          Effect.gen(function* () {
            yield* quiet
            yield* Producer.publishAll(Notes, [note("a3", "a"), note("a4", "a")])
            yield* quiet
            yield* TestClock.adjust("2 minutes")
            yield* quiet
            yield* Deferred.succeed(slow, undefined)
            assert.deepStrictEqual(yield* takeN(handled, 5), ["b", "a1", "a2", "a3", "a4"])
          })
        )
        assert.strictEqual(yield* lag("notes", "readers"), 0)
      }).pipe(Effect.provide(Surety.layerMemory))
    )
  }
})

describe("Parking", () => {
  it("counts what the cursor has passed: the rest comes only as the cursor moves on", () => {
    const parking = new Parking(2)
    parking.add(
      [1, 2, 3, 4].map((offset) => ({ offset, key: undefined, dueAt: undefined })),
      true
    )
    assert.strictEqual(parking.passedSize, 2)
    parking.passed(4)
    assert.strictEqual(parking.passedSize, 4)
  })
})

describe("a delay", () => {
  for (const guarantee of ["at-least-once", "exactly-once"] as const) {
    it.effect(`${guarantee}, without an end keeps its message aside, and nothing else`, () =>
      Effect.gen(function* () {
        const Notes = notes(guarantee)
        const handled = yield* Queue.unbounded<string>()
        yield* Producer.publishAll(Notes, [note("never", "a"), note("other", "b")])
        yield* during(
          Consumer.make(Notes, {
            group: "readers",
            handler: ({ id }) => (id === "never" ? Consumer.retryAfter(Duration.infinity) : Queue.offer(handled, id))
          }),
          Effect.gen(function* () {
            assert.strictEqual(yield* Queue.take(handled), "other")
            yield* quiet
            yield* TestClock.adjust("1 hour")
            yield* quiet
            yield* Producer.publish(Notes, note("another", "b"))
            assert.strictEqual(yield* Queue.take(handled), "another")
          })
        )
        assert.strictEqual(yield* lag("notes", "readers"), 1)
      }).pipe(Effect.provide(Surety.layerMemory))
    )
  }
})

describe("what is due", () => {
  it.effect("waits in the store while handlers are busy", () => {
    let read = 0
    const counting = layerOver(
      withAssignments((assignment) => {
        const real = assignment.redelivery!
        const redelivery: Transport.Redelivery = {
          ...real,
          read: (offsets) => {
            read += offsets.length
            return real.read(offsets)
          }
        }
        return { redelivery }
      })
    )
    return Effect.gen(function* () {
      const Notes = notes("at-least-once")
      const go = yield* Deferred.make<void>()
      const mended = { yes: false }
      const consumer = Consumer.make(Notes, {
        group: "readers",
        prefetch: 5,
        handler: () => (mended.yes ? Deferred.await(go) : new Broken())
      }).pipe(Consumer.orDeadLetter)
      yield* Producer.publishAll(
        Notes,
        Array.from({ length: 50 }, (_, index) => note(`${index}`))
      )
      yield* during(consumer, quiet)
      mended.yes = true
      assert.strictEqual(yield* (yield* DeadLetters.DeadLetters).redrive(), 50)
      yield* during(
        consumer,
        Effect.gen(function* () {
          yield* quiet
          assert.isAtMost(read, 5)
          yield* Deferred.succeed(go, undefined)
          yield* quiet
        })
      )
      assert.strictEqual(yield* lag("notes", "readers"), 0)
    }).pipe(Effect.provide(counting))
  })
})

describe("a dead letter of what was kept aside", () => {
  it.effect("is stored in one step with the end of that: a redrive in between would lose the message", () => {
    const steps: Array<string> = []
    const watching = layerOver(
      withAssignments((assignment) => {
        const real = assignment.redelivery!
        return {
          deadLetter: (found) => {
            steps.push("letter alone")
            return assignment.deadLetter(found)
          },
          redelivery: {
            ...real,
            settle: (offsets, found) => {
              steps.push(`settled with ${found.length}`)
              return real.settle(offsets, found)
            }
          }
        }
      })
    )
    return Effect.gen(function* () {
      const Notes = notes("at-least-once")
      yield* Producer.publish(Notes, note("one"))
      yield* during(
        Consumer.make(Notes, { group: "readers", handler: () => new Broken() }).pipe(
          Consumer.retry(Schedule.spaced("1 minute").pipe(Schedule.upTo({ times: 1 }))),
          Consumer.orDeadLetter
        ),
        Effect.gen(function* () {
          yield* quiet
          yield* TestClock.adjust("1 minute")
          yield* quiet
        })
      )
      assert.deepStrictEqual(steps, ["settled with 1"])
      assert.lengthOf(yield* letters(), 1)
    }).pipe(Effect.provide(watching))
  })
})
