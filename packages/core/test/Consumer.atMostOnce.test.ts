import { assert, describe, it } from "@effect/vitest"
import { Consumer, Producer, Surety } from "@surety/core"
import { Deferred, Effect, Queue, Schedule } from "effect"
import { TestClock } from "effect/testing"
import { Broken, during, lag, letters, note, notes, quiet, seen, takeN } from "./support.ts"

const Notes = notes("at-most-once")

describe("a consumer of an at-most-once topic", () => {
  it.effect("handles each message once, in order", () =>
    Effect.gen(function* () {
      const events = yield* Queue.unbounded<string>()
      const consumer = Consumer.make(Notes, {
        group: "readers",
        handler: (_, envelope) => Queue.offer(events, seen(envelope))
      })
      yield* during(
        consumer,
        Effect.gen(function* () {
          yield* Producer.publishAll(Notes, [note("a"), note("b"), note("c")])
          assert.deepStrictEqual(yield* takeN(events, 3), ["a#1", "b#1", "c#1"])
        })
      )
      assert.strictEqual(yield* lag("notes", "readers"), 0)
    }).pipe(Effect.provide(Surety.layerMemory))
  )

  it.effect("stores its progress before the handler starts", () =>
    Effect.gen(function* () {
      const started = yield* Deferred.make<number>()
      const consumer = Consumer.make(Notes, {
        group: "readers",
        handler: () => Effect.flatMap(Effect.orDie(lag("notes", "readers")), (lag) => Deferred.succeed(started, lag))
      })
      yield* during(
        consumer,
        Effect.gen(function* () {
          yield* Producer.publish(Notes, note("a"))
          assert.strictEqual(yield* Deferred.await(started), 0)
        })
      )
    }).pipe(Effect.provide(Surety.layerMemory))
  )

  it.effect("never starts a handler again: not after a failure, a defect, an interruption or a timeout", () =>
    Effect.gen(function* () {
      const events = yield* Queue.unbounded<string>()
      const consumer = Consumer.make(Notes, {
        group: "readers",
        handlerTimeout: "1 second",
        defectRetry: Schedule.recurs(3),
        handler: ({ id }, envelope) =>
          Effect.andThen(
            Queue.offer(events, seen(envelope)),
            id === "fails"
              ? new Broken()
              : id === "dies"
                ? Effect.die(new Error("boom"))
                : id === "interrupts"
                  ? Effect.interrupt
                  : id === "hangs"
                    ? Effect.never
                    : Effect.void
          )
      }).pipe(Consumer.orDeadLetter)
      yield* during(
        consumer,
        Effect.gen(function* () {
          yield* Producer.publishAll(
            Notes,
            ["fails", "dies", "interrupts", "hangs", "fine"].map((id) => note(id))
          )
          assert.deepStrictEqual(yield* takeN(events, 4), ["fails#1", "dies#1", "interrupts#1", "hangs#1"])
          yield* quiet
          yield* TestClock.adjust("1 hour")
          assert.deepStrictEqual(yield* takeN(events, 1), ["fine#1"])
          yield* quiet
          yield* TestClock.adjust("1 hour")
          assert.strictEqual(yield* Queue.size(events), 0)
        })
      )
      assert.deepStrictEqual(
        (yield* letters()).map(({ attempts, failure, record }) => [record.id, failure.tag, attempts]),
        [
          ["fails", "Broken", 1],
          ["dies", "Error", 1],
          ["interrupts", "Error", 1],
          ["hangs", "HandlerTimeout", 1]
        ]
      )
    }).pipe(Effect.provide(Surety.layerMemory))
  )

  it.effect("is refused with a retry, also where the types were circumvented", () =>
    Effect.gen(function* () {
      // The cast: with its types, a retry on this topic does not compile.
      const retry: any = Consumer.retry(Schedule.recurs(1))
      const consumer: Consumer.Consumer<unknown, never, never> = retry(
        Consumer.make(Notes, { group: "readers", handler: () => Effect.void })
      )
      const error = yield* Effect.flip(Consumer.run(consumer))
      assert.strictEqual(error.reason._tag, "InvalidConsumer")
      assert.include(error.message, "starts once and cannot be retried")
    }).pipe(Effect.provide(Surety.layerMemory))
  )
})
