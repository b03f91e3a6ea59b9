/** Invariant 13: what a shutdown interrupts is no attempt, wherever it interrupts; and what it does not, leaves nothing behind. */
import { assert, describe, it } from "@effect/vitest"
import { Consumer, MemoryStore, Producer, Topic, Transport } from "@surety/core"
import { Deferred, Effect, Exit, Fiber, Layer, Queue, Schedule, Schema, Scope } from "effect"
import { TestClock } from "effect/testing"
import { Busy, layerOver, note, notes, quiet, seen, takeN, withAssignments } from "./support.ts"

/** Stops what runs in a scope, and waits for as long as its handlers may go on. */
const stop = (scope: Scope.Closeable) =>
  Effect.gen(function* () {
    const stopping = yield* Effect.forkChild(Scope.close(scope, Exit.void))
    yield* quiet
    yield* TestClock.adjust("10 seconds")
    yield* Fiber.join(stopping)
  })

/** What the store has counted: claims and failures, by offset. */
const counts = Effect.map(MemoryStore.MemoryStore, ({ groups }) =>
  Array.from(groups.values()).flatMap(({ cursors }) =>
    cursors.flatMap(({ attempts }) =>
      Array.from(attempts, ([offset, { claims, failures }]) => `${offset}: ${claims}/${failures}`)
    )
  )
)

for (const guarantee of ["at-least-once", "exactly-once"] as const) {
  const Notes = notes(guarantee)

  describe(`a shutdown, of a consumer of an ${guarantee} topic`, () => {
    for (const [when, hangsAt, left] of [
      ["while an attempt is being counted", "2/1", "1: 1/1"],
      ["while a failure is being counted", "2/2", "1: 2/2"]
    ] as const) {
      it.effect(`${when} counts what has failed, and nothing else`, () => {
        let hangs = true
        const slow = layerOver(
          withAssignments(({ count }) => ({
            count: (offset, attempts) =>
              Effect.andThen(
                count(offset, attempts),
                hangs && `${attempts.claims}/${attempts.failures}` === hangsAt
                  ? Effect.suspend(() => {
                      hangs = false
                      return Effect.never
                    })
                  : Effect.void
              )
          }))
        )
        return Effect.gen(function* () {
          const events = yield* Queue.unbounded<string>()
          const scope = yield* Scope.make()
          yield* Producer.publish(Notes, note("a"))
          const consumer = Consumer.make(Notes, {
            group: "readers",
            handler: (_, envelope) => Effect.andThen(Queue.offer(events, seen(envelope)), new Busy({ wait: 1 }))
          }).pipe(Consumer.retry(Schedule.spaced("1 second")), Consumer.orDeadLetter)
          yield* Consumer.start(consumer).pipe(Scope.provide(scope))
          yield* takeN(events, 1)
          yield* quiet
          yield* TestClock.adjust("1 second")
          yield* quiet
          assert.isFalse(hangs)
          yield* stop(scope)
          assert.deepStrictEqual(yield* counts, [left])
        }).pipe(Effect.provide(Layer.provideMerge(slow, MemoryStore.layer)))
      })
    }
  })
}

describe("a shutdown after a transaction has committed", () => {
  const Notes = notes("exactly-once")
  const Metrics = Topic.make("metrics", { schema: Schema.String, guarantee: "at-most-once" })

  it.effect("leaves no count behind, although at-most-once messages of it are still being sent", () => {
    const sending = Deferred.makeUnsafe<void>()
    const slow = layerOver(({ publish }) => ({
      publish: (topic, records) =>
        topic.name === "metrics"
          ? Effect.andThen(Deferred.succeed(sending, undefined), Effect.never)
          : publish(topic, records)
    }))
    return Effect.gen(function* () {
      const scope = yield* Scope.make()
      yield* Producer.publish(Notes, note("a"))
      const consumer = Consumer.make(Notes, {
        group: "readers",
        drainTimeout: "1 second",
        handler: (_, { attempt }) =>
          attempt === 1 ? Effect.fail(new Busy({ wait: 1 })) : Effect.orDie(Producer.publish(Metrics, "handled"))
      }).pipe(Consumer.retry(Schedule.spaced("1 second")), Consumer.orDeadLetter)
      yield* Consumer.start(consumer).pipe(Scope.provide(scope))
      yield* quiet
      assert.deepStrictEqual(yield* counts, ["1: 1/1"])
      yield* TestClock.adjust("1 second")
      yield* Deferred.await(sending)
      yield* stop(scope)
      assert.deepStrictEqual(yield* counts, [])
      const transport = yield* Transport.Transport
      assert.deepStrictEqual(yield* transport.progress("notes", "readers"), [
        { partition: 0, settled: 1, lag: 0, parked: 0 }
      ])
    }).pipe(Effect.provide(Layer.provideMerge(slow, MemoryStore.layer)))
  })
})
