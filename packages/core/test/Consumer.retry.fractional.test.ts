import { assert, describe, it } from "@effect/vitest"
import { Consumer, Producer, Surety } from "@surety/core"
import { Effect, Queue, Schedule } from "effect"
import { TestClock } from "effect/testing"
import { Broken, Busy, during, letters, note, notes, takeN } from "./support.ts"

describe("Consumer.retry", () => {
  // Delays with jitter are fractions of a millisecond, whose sums are rounded: a message that is due a rounding error
  // after the clock's last tick was waited for without end.
  it.effect("reaches the end of a schedule whose delays are fractions of a millisecond", () =>
    Effect.gen(function* () {
      const topic = notes("at-least-once")
      const tries = yield* Queue.unbounded<number>()
      const delayed = (millis: number) => Schedule.spaced(millis).pipe(Schedule.upTo({ times: 50 }))
      const consumer = Consumer.make(topic, {
        group: "group",
        handler: ({ id }, { attempt }) =>
          Effect.andThen(Queue.offer(tries, attempt), Effect.fail(id === "1" ? new Broken() : new Busy({ wait: 1 })))
      }).pipe(Consumer.retry("Broken", delayed(0.1)), Consumer.retry("Busy", delayed(0.37)), Consumer.orDeadLetter)
      yield* during(
        consumer,
        Effect.gen(function* () {
          yield* Producer.publishAll(topic, [note("1"), note("2")])
          yield* takeN(tries, 2)
          yield* TestClock.adjust("1 second")
          yield* takeN(tries, 100)
        })
      )
      assert.deepStrictEqual(
        (yield* letters()).map(({ attempts }) => attempts),
        [51, 51]
      )
    }).pipe(Effect.provide(Surety.layerMemory))
  )
})
