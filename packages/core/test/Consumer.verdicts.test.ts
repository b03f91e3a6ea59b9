/** What a handler decides about its own message. */
import { assert, describe, it } from "@effect/vitest"
import { Consumer, Producer, Surety } from "@surety/core"
import { Effect, Queue, Schedule } from "effect"
import { TestClock } from "effect/testing"
import { Broken, during, lag, letters, note, notes, quiet, seen, takeN } from "./support.ts"

for (const guarantee of ["at-least-once", "exactly-once"] as const) {
  const Notes = notes(guarantee)

  describe(`verdicts, ${guarantee}`, () => {
    it.effect("reject goes past the retries to the dead letters, with its reason", () =>
      Effect.gen(function* () {
        const handled = yield* Queue.unbounded<string>()
        yield* Producer.publishAll(Notes, [note("bad", "a"), note("good", "a")])
        yield* during(
          Consumer.make(Notes, {
            group: "readers",
            handler: ({ id }, envelope) =>
              id === "bad"
                ? Effect.andThen(Consumer.reject("no such account"), new Broken())
                : Queue.offer(handled, seen(envelope))
          }).pipe(Consumer.retry(Schedule.spaced("1 minute")), Consumer.orDeadLetter),
          Queue.take(handled)
        )
        assert.deepStrictEqual(
          (yield* letters()).map(({ attempts, failure, record }) => [
            record.id,
            attempts,
            failure.tag,
            failure.message
          ]),
          [["bad", 1, "Rejected", "no such account"]]
        )
        assert.strictEqual(yield* lag("notes", "readers"), 0)
      }).pipe(Effect.provide(Surety.layerMemory))
    )

    it.effect("retryAfter goes past the rules, waits as long as it says, and counts", () =>
      Effect.gen(function* () {
        const handled = yield* Queue.unbounded<string>()
        yield* Producer.publishAll(Notes, [note("busy", "a"), note("behind", "a"), note("other", "b")])
        yield* during(
          Consumer.make(Notes, {
            group: "readers",
            handler: ({ id }, envelope) =>
              id === "busy" && envelope.attempt < 3
                ? Consumer.retryAfter(envelope.attempt === 1 ? "5 seconds" : "1 hour")
                : Queue.offer(handled, seen(envelope))
          }).pipe(Consumer.orDeadLetter),
          Effect.gen(function* () {
            assert.strictEqual(yield* Queue.take(handled), "other#1")
            yield* quiet
            yield* TestClock.adjust("5 seconds")
            yield* quiet
            yield* TestClock.adjust("59 minutes")
            yield* quiet
            assert.strictEqual(yield* Queue.size(handled), 0)
            yield* TestClock.adjust("1 minute")
            assert.deepStrictEqual(yield* takeN(handled, 2), ["busy#3", "behind#1"])
          })
        )
        assert.deepStrictEqual(yield* letters(), [])
        assert.strictEqual(yield* lag("notes", "readers"), 0)
      }).pipe(Effect.provide(Surety.layerMemory))
    )
  })
}

describe("verdicts, at-most-once", () => {
  it.effect("retryAfter cannot be had: the handler starts once", () =>
    Effect.gen(function* () {
      const Notes = notes("at-most-once")
      const started = yield* Queue.unbounded<string>()
      yield* during(
        Consumer.make(Notes, {
          group: "readers",
          handler: (_, envelope) =>
            Effect.andThen(Queue.offer(started, seen(envelope)), Consumer.retryAfter("1 second"))
        }).pipe(Consumer.orDeadLetter),
        Effect.gen(function* () {
          yield* Producer.publish(Notes, note("one"))
          yield* Queue.take(started)
          yield* quiet
          yield* TestClock.adjust("1 minute")
          yield* quiet
          assert.strictEqual(yield* Queue.size(started), 0)
        })
      )
      assert.deepStrictEqual(
        (yield* letters()).map(({ failure }) => failure.tag),
        ["RetryAfter"]
      )
    }).pipe(Effect.provide(Surety.layerMemory))
  )
})
