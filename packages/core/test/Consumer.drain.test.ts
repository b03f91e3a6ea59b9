import { assert, describe, it } from "@effect/vitest"
import { Consumer, DeadLetters, Producer, Surety } from "@surety/core"
import { Deferred, Effect, Exit, Fiber, Layer, Queue, Schedule, Scope } from "effect"
import { TestClock } from "effect/testing"
import { Busy, during, lag, layerOver, letters, note, notes, quiet, seen, takeN, withAssignments } from "./support.ts"

/** A consumer that runs until `stop`, which returns once it has drained. */
const started = <A, R>(consumer: Consumer.Consumer<A, never, R>) =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    yield* Layer.buildWithScope(Consumer.layer(consumer), scope)
    return { stop: Effect.forkChild(Scope.close(scope, Exit.void)) }
  })

for (const guarantee of ["at-least-once", "exactly-once"] as const) {
  const Notes = notes(guarantee)

  describe(`draining a consumer of an ${guarantee} topic`, () => {
    it.effect("lets running handlers end, and claims and starts nothing new", () =>
      Effect.gen(function* () {
        const events = yield* Queue.unbounded<string>()
        const finish = yield* Deferred.make<void>()
        const { stop } = yield* started(
          Consumer.make(Notes, {
            group: "readers",
            batchSize: 1,
            handler: (_, envelope) => Effect.andThen(Queue.offer(events, seen(envelope)), Deferred.await(finish))
          })
        )
        yield* Producer.publishAll(Notes, [note("a", "k"), note("b", "k")])
        assert.deepStrictEqual(yield* takeN(events, 1), ["a#1"])
        const stopping = yield* stop
        yield* quiet
        assert.isUndefined(stopping.pollUnsafe())
        yield* Producer.publish(Notes, note("c"))
        yield* Deferred.succeed(finish, undefined)
        yield* Fiber.join(stopping)
        assert.deepStrictEqual(yield* Queue.clear(events), [])
        assert.strictEqual(yield* lag("notes", "readers"), 2)
      }).pipe(Effect.provide(Surety.layerMemory))
    )

    it.effect("starts no handler that was waiting for another partition's to end", () =>
      Effect.gen(function* () {
        const Spread = notes(guarantee, 4)
        const events = yield* Queue.unbounded<string>()
        const finish = yield* Deferred.make<void>()
        const { stop } = yield* started(
          Consumer.make(Spread, {
            group: "readers",
            batchSize: 1,
            handler: (_, envelope) => Effect.andThen(Queue.offer(events, seen(envelope)), Deferred.await(finish))
          })
        )
        yield* Producer.publishAll(
          Spread,
          ["a", "b", "c", "d", "e", "f"].map((id) => note(id))
        )
        yield* takeN(events, 1)
        yield* quiet
        const stopping = yield* stop
        yield* quiet
        yield* Deferred.succeed(finish, undefined)
        yield* Fiber.join(stopping)
        assert.deepStrictEqual(yield* Queue.clear(events), [])
        assert.strictEqual(yield* lag("notes", "readers"), 5)
      }).pipe(Effect.provide(Surety.layerMemory))
    )

    it.effect("interrupts what takes longer than drainTimeout, and does not count that as an attempt", () =>
      Effect.gen(function* () {
        const events = yield* Queue.unbounded<string>()
        const consumer = (handler: Effect.Effect<void, Busy>) =>
          Consumer.make(Notes, {
            group: "readers",
            drainTimeout: "3 seconds",
            handler: (_, envelope) => Effect.andThen(Queue.offer(events, seen(envelope)), handler)
          }).pipe(Consumer.retry(Schedule.spaced("1 second")), Consumer.orDeadLetter)
        const { stop } = yield* started(
          consumer(Effect.onInterrupt(Effect.never, () => Queue.offer(events, "interrupted")))
        )
        yield* Producer.publish(Notes, note("a"))
        assert.deepStrictEqual(yield* takeN(events, 1), ["a#1"])
        const stopping = yield* stop
        yield* quiet
        yield* TestClock.adjust(2999)
        assert.strictEqual(yield* Queue.size(events), 0)
        yield* TestClock.adjust(1)
        yield* Fiber.join(stopping)
        assert.deepStrictEqual(yield* takeN(events, 1), ["interrupted"])
        // Neither the shutdown nor a second one, of a counted attempt, counts.
        for (let i = 0; i < 5; i++) {
          const again = yield* started(consumer(i === 0 ? new Busy({ wait: 1 }) : Effect.never))
          assert.deepStrictEqual(yield* takeN(events, 1), [i === 0 ? "a#1" : "a#2"])
          yield* quiet
          const stopping = yield* again.stop
          yield* quiet
          yield* TestClock.adjust("3 seconds")
          yield* Fiber.join(stopping)
          yield* Queue.clear(events)
        }
        yield* during(consumer(Effect.void), takeN(events, 1))
        assert.strictEqual(yield* lag("notes", "readers"), 0)
        assert.deepStrictEqual(yield* letters(), [])
      }).pipe(Effect.provide(Surety.layerMemory))
    )
  })
}

describe("draining a consumer of an at-most-once topic", () => {
  const Notes = notes("at-most-once")

  it.effect("handles what is stored as settled already: nothing is lost by a shutdown in order", () =>
    Effect.gen(function* () {
      const events = yield* Queue.unbounded<string>()
      const finish = yield* Deferred.make<void>()
      const { stop } = yield* started(
        Consumer.make(Notes, {
          group: "readers",
          handler: (_, envelope) => Effect.andThen(Queue.offer(events, seen(envelope)), Deferred.await(finish))
        })
      )
      yield* Producer.publishAll(Notes, [note("a", "k"), note("b", "k"), note("c")])
      assert.deepStrictEqual(yield* takeN(events, 1), ["a#1"])
      const stopping = yield* stop
      yield* quiet
      yield* Producer.publish(Notes, note("d"))
      yield* Deferred.succeed(finish, undefined)
      yield* Fiber.join(stopping)
      const ids = yield* Queue.clear(events)
      assert.deepStrictEqual([...ids].sort(), ["b#1", "c#1"])
      assert.strictEqual(yield* lag("notes", "readers"), 1)
    }).pipe(Effect.provide(Surety.layerMemory))
  )

  for (const what of ["claimed", "redriven"] as const) {
    it.effect(`handles what was ${what}, and is being stored as settled as it stops`, () => {
      const stored = Deferred.makeUnsafe<void>()
      const answered = Deferred.makeUnsafe<void>()
      let late = false
      const lateReply = <A, E>(settle: Effect.Effect<A, E>) =>
        Effect.tap(settle, () =>
          late ? Effect.andThen(Deferred.succeed(stored, undefined), Deferred.await(answered)) : Effect.void
        )
      const layer = layerOver(
        withAssignments(({ redelivery, settle }) => ({
          settle: (offset) => lateReply(settle(offset)),
          redelivery: redelivery && {
            ...redelivery,
            settle: (offsets, dead) => lateReply(redelivery.settle(offsets, dead))
          }
        }))
      )
      return Effect.gen(function* () {
        const events = yield* Queue.unbounded<string>()
        const { stop } = yield* started(
          Consumer.make(Notes, {
            group: "readers",
            handler: (_, envelope) =>
              Effect.andThen(Queue.offer(events, seen(envelope)), late ? Effect.void : new Busy({ wait: 0 }))
          }).pipe(Consumer.orDeadLetter)
        )
        const publish = Producer.publish(Notes, note("a"))
        if (what === "redriven") {
          yield* publish
          yield* takeN(events, 1)
          yield* quiet
        }
        late = true
        yield* what === "claimed" ? publish : Effect.flatMap(DeadLetters.DeadLetters, ({ redrive }) => redrive())
        yield* Deferred.await(stored)
        const stopping = yield* stop
        yield* quiet
        assert.isUndefined(stopping.pollUnsafe())
        yield* Deferred.succeed(answered, undefined)
        yield* Fiber.join(stopping)
        assert.deepStrictEqual(yield* Queue.clear(events), ["a#1"])
      }).pipe(Effect.provide(layer))
    })
  }
})
