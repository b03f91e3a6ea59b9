/** Retries that are due later than a lease should wait: kept aside in the store, in order, across processes. */

import { assert, describe, it } from "@effect/vitest"
import { Consumer, type Envelope, MemoryStore, Producer, Surety, Transport } from "@surety/core"
import { Deferred, Effect, Exit, Layer, Queue, Schedule, Scope } from "effect"
import { TestClock } from "effect/testing"
import { Busy, during, layerNode, letters, type Note, note, notes, quiet, seen, takeN } from "./support.ts"

const progress = Effect.flatMap(Transport.Transport, (transport) => transport.progress("notes", "readers"))

for (const guarantee of ["at-least-once", "exactly-once"] as const) {
  const Notes = notes(guarantee)
  const consumer = (handler: (payload: Note, envelope: Envelope.Envelope<Note>) => Effect.Effect<unknown, Busy>) =>
    Consumer.make(Notes, { group: "readers", handler, batchSize: 1, redeliverAfter: "30 seconds" })
  const everyMinute = Consumer.retry(Schedule.spaced("1 minute"))

  describe(`a late retry, ${guarantee}`, () => {
    it.effect("is kept aside: its key waits behind it, in order, and other keys go on", () =>
      Effect.gen(function* () {
        const handled = yield* Queue.unbounded<string>()
        yield* Producer.publishAll(Notes, [note("a1", "a"), note("b1", "b"), note("a2", "a"), note("free")])
        yield* during(
          consumer((_, envelope) =>
            envelope.id === "a1" && envelope.attempt <= 2
              ? Effect.fail(new Busy({ wait: 0 }))
              : Queue.offer(handled, seen(envelope))
          ).pipe(everyMinute, Consumer.orDeadLetter),
          Effect.gen(function* () {
            assert.deepStrictEqual((yield* takeN(handled, 2)).sort(), ["b1#1", "free#1"])
            // Claimed after the key was blocked.
            yield* Producer.publishAll(Notes, [note("a3", "a"), note("b2", "b")])
            assert.strictEqual(yield* Queue.take(handled), "b2#1")
            yield* quiet
            assert.deepStrictEqual(yield* progress, [{ partition: 0, settled: 6, lag: 3, parked: 3 }])
            yield* TestClock.adjust("1 minute")
            yield* quiet
            assert.strictEqual(yield* Queue.size(handled), 0)
            yield* TestClock.adjust("1 minute")
            assert.deepStrictEqual(yield* takeN(handled, 3), ["a1#3", "a2#1", "a3#1"])
            // The key is free again.
            yield* Producer.publish(Notes, note("a4", "a"))
            assert.strictEqual(yield* Queue.take(handled), "a4#1")
          })
        )
        assert.deepStrictEqual(yield* progress, [{ partition: 0, settled: 7, lag: 0, parked: 0 }])
      }).pipe(Effect.provide(Surety.layerMemory))
    )

    it.effect("is redelivered by a later process, which goes on counting and backing off", () =>
      Effect.gen(function* () {
        const started = yield* Queue.unbounded<string>()
        const live = consumer((_, envelope) =>
          Effect.andThen(
            Queue.offer(started, seen(envelope)),
            envelope.key === "a" && envelope.attempt <= 4 ? Effect.fail(new Busy({ wait: 0 })) : Effect.void
          )
        ).pipe(Consumer.retry(Schedule.exponential("1 minute")), Consumer.orDeadLetter, Consumer.layer)

        /** Runs a process until `body` is done; then its power fails. */
        const process = <A, R>(body: Effect.Effect<A, unknown, R>) =>
          Effect.gen(function* () {
            const node = { alive: true }
            const scope = yield* Scope.make()
            const context = yield* Layer.buildWithScope(Layer.provideMerge(live, layerNode(node)), scope)
            const result = yield* Effect.provide(body, context)
            node.alive = false
            yield* Scope.close(scope, Exit.void)
            return result
          })

        yield* process(
          Effect.gen(function* () {
            yield* Producer.publishAll(Notes, [note("one", "a"), note("two", "a"), note("other", "b")])
            assert.deepStrictEqual((yield* takeN(started, 2)).sort(), ["one#1", "other#1"])
            yield* quiet
            yield* TestClock.adjust("1 minute")
            assert.strictEqual(yield* Queue.take(started), "one#2")
            yield* quiet
          }).pipe(Effect.provide(layerNode({ alive: true })))
        )
        yield* process(
          Effect.gen(function* () {
            // Its predecessor's lease has to expire, and the second delay is 2 minutes.
            yield* TestClock.adjust("119 seconds")
            yield* quiet
            assert.strictEqual(yield* Queue.size(started), 0)
            yield* TestClock.adjust("1 second")
            assert.strictEqual(yield* Queue.take(started), "one#3")
            yield* quiet
          })
        )
        yield* process(
          Effect.gen(function* () {
            yield* TestClock.adjust("239 seconds")
            yield* quiet
            assert.strictEqual(yield* Queue.size(started), 0)
            yield* TestClock.adjust("1 second")
            assert.strictEqual(yield* Queue.take(started), "one#4")
            yield* quiet
            yield* TestClock.adjust("480 seconds")
            assert.strictEqual(yield* Queue.take(started), "one#5")
            assert.strictEqual(yield* Queue.take(started), "two#1")
            yield* quiet
          })
        )
      }).pipe(Effect.provide(MemoryStore.layer))
    )

    it.effect("ends where a schedule is bounded by time, and its dead letter blocks nothing", () =>
      Effect.gen(function* () {
        const handled = yield* Queue.unbounded<string>()
        yield* Producer.publishAll(Notes, [note("a1", "a"), note("a2", "a")])
        yield* during(
          consumer((_, envelope) =>
            envelope.id === "a1" ? Effect.fail(new Busy({ wait: 0 })) : Queue.offer(handled, seen(envelope))
          ).pipe(
            Consumer.retry(Schedule.spaced("1 minute").pipe(Schedule.upTo({ duration: "150 seconds" }))),
            Consumer.orDeadLetter
          ),
          Effect.gen(function* () {
            for (let minute = 0; minute < 4; minute++) {
              yield* quiet
              yield* TestClock.adjust("1 minute")
            }
            assert.strictEqual(yield* Queue.take(handled), "a2#1")
          })
        )
        assert.deepStrictEqual(
          (yield* letters()).map(({ attempts, record }) => [record.id, attempts]),
          [["a1", 4]]
        )
        assert.deepStrictEqual(yield* progress, [{ partition: 0, settled: 2, lag: 0, parked: 0 }])
      }).pipe(Effect.provide(Surety.layerMemory))
    )

    it.effect("that kills its process when it comes again is dead-lettered within maxCrashes", () =>
      Effect.gen(function* () {
        const started = yield* Queue.unbounded<string>()
        const forever = yield* Deferred.make<void>()
        const live = Consumer.make(Notes, {
          group: "readers",
          maxCrashes: 2,
          redeliverAfter: "30 seconds",
          handler: (_, envelope) =>
            Effect.andThen(
              Queue.offer(started, seen(envelope)),
              envelope.attempt === 1 ? new Busy({ wait: 0 }) : Deferred.await(forever)
            )
        }).pipe(everyMinute, Consumer.orDeadLetter, Consumer.layer)
        const process = (body: Effect.Effect<void, unknown, unknown>) =>
          Effect.gen(function* () {
            const node = { alive: true }
            const scope = yield* Scope.make()
            const context = yield* Layer.buildWithScope(Layer.provideMerge(live, layerNode(node)), scope)
            yield* Effect.provide(body as Effect.Effect<void, unknown>, context)
            node.alive = false
            yield* Effect.forkChild(Scope.close(scope, Exit.void))
            yield* TestClock.adjust("10 seconds")
          })
        yield* Producer.publish(Notes, note("poison", "a")).pipe(Effect.provide(layerNode({ alive: true })))
        yield* process(Effect.andThen(Queue.take(started), quiet))
        for (const attempt of [2, 3, 4]) {
          yield* process(
            Effect.gen(function* () {
              yield* TestClock.adjust("1 minute")
              assert.strictEqual(yield* Queue.take(started), `poison#${attempt}`)
            })
          )
        }
        yield* process(Effect.andThen(TestClock.adjust("1 minute"), quiet))
        const [letter] = yield* letters().pipe(Effect.provide(layerNode({ alive: true })))
        assert.strictEqual(letter?.failure.tag, "Crashed")
        assert.strictEqual(letter?.attempts, 4)
        assert.strictEqual(yield* Queue.size(started), 0)
      }).pipe(Effect.provide(MemoryStore.layer))
    )
  })
}
