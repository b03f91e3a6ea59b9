import { assert, describe, it } from "@effect/vitest"
import { Consumer, type Envelope, Producer, Surety } from "@surety/core"
import { Deferred, Effect, Queue, Schedule } from "effect"
import { TestClock } from "effect/testing"
import { Fenced, TransportError } from "../src/TransportError.ts"
import { Busy, during, lag, layerOver, note, notes, quiet, seen, takeN, withAssignments } from "./support.ts"

for (const guarantee of ["at-least-once", "exactly-once"] as const) {
  const Notes = notes(guarantee)

  describe(`a consumer of an ${guarantee} topic`, () => {
    it.effect("hands over the envelope", () =>
      Effect.gen(function* () {
        yield* TestClock.setTime(1234)
        const envelopes = yield* Queue.unbounded<Envelope.Envelope<unknown>>()
        yield* during(
          Consumer.make(Notes, { group: "readers", handler: (_, envelope) => Queue.offer(envelopes, envelope) }),
          Effect.gen(function* () {
            yield* Producer.publish(Notes, note("first"))
            yield* Producer.publish(Notes, note("a", "k"), { headers: { lang: "en" } })
            const [, envelope] = yield* takeN(envelopes, 2)
            assert.deepStrictEqual(envelope, {
              topic: "notes",
              group: "readers",
              id: "a",
              key: "k",
              headers: { "content-type": "application/json", lang: "en" },
              time: 1234,
              partition: 0,
              offset: 2,
              attempt: 1,
              epoch: 1,
              payload: note("a", "k")
            })
          })
        )
        // A later holder of the partition has a greater epoch.
        yield* during(
          Consumer.make(Notes, { group: "readers", handler: (_, envelope) => Queue.offer(envelopes, envelope) }),
          Effect.gen(function* () {
            yield* Producer.publish(Notes, note("b"))
            const [envelope] = yield* takeN(envelopes, 1)
            assert.deepInclude(envelope, { id: "b", epoch: 2, offset: 3 })
          })
        )
      }).pipe(Effect.provide(Surety.layerMemory))
    )

    it.effect("handles messages of one key in order, and lets other keys pass one that waits for a retry", () =>
      Effect.gen(function* () {
        const events = yield* Queue.unbounded<string>()
        yield* during(
          Consumer.make(Notes, {
            group: "readers",
            concurrency: 4,
            batchSize: 1,
            handler: (_, envelope) =>
              Effect.andThen(
                Queue.offer(events, seen(envelope)),
                envelope.id === "a1" && envelope.attempt < 3 ? new Busy({ wait: 1 }) : Effect.void
              )
          }).pipe(Consumer.retry(Schedule.spaced("1 minute")), Consumer.orDeadLetter),
          Effect.gen(function* () {
            yield* Producer.publishAll(Notes, [
              note("a1", "a"),
              note("a2", "a"),
              note("b1", "b"),
              note("free"),
              note("b2", "b"),
              note("a3", "a")
            ])
            assert.deepStrictEqual((yield* takeN(events, 4)).sort(), ["a1#1", "b1#1", "b2#1", "free#1"])
            yield* quiet
            yield* TestClock.adjust("1 minute")
            assert.deepStrictEqual(yield* takeN(events, 1), ["a1#2"])
            yield* quiet
            assert.strictEqual(yield* Queue.size(events), 0)
            yield* TestClock.adjust("1 minute")
            assert.deepStrictEqual(yield* takeN(events, 3), ["a1#3", "a2#1", "a3#1"])
          })
        )
        assert.strictEqual(yield* lag("notes", "readers"), 0)
      }).pipe(Effect.provide(Surety.layerMemory))
    )

    it.effect("runs as many handlers as concurrency says over all partitions, never two of a key", () =>
      Effect.gen(function* () {
        const Spread = notes(guarantee, 4)
        const running = new Map<string, number>()
        let most = 0
        let handled = 0
        const done = yield* Deferred.make<void>()
        const ids = Array.from({ length: 60 }, (_, i) => i)
        yield* during(
          Consumer.make(Spread, {
            group: "readers",
            concurrency: 3,
            batchSize: 1,
            handler: Effect.fn(function* ({ key }) {
              assert.isFalse(running.has(key!))
              running.set(key!, 1)
              most = Math.max(most, running.size)
              yield* Effect.repeat(Effect.yieldNow, { times: 3 })
              running.delete(key!)
              if (++handled === ids.length) yield* Deferred.succeed(done, undefined)
            })
          }),
          Effect.gen(function* () {
            yield* Producer.publishAll(
              Spread,
              ids.map((i) => note(`m${i}`, `key ${i % 12}`))
            )
            yield* Deferred.await(done)
          })
        )
        assert.strictEqual(most, 3)
        assert.strictEqual(yield* lag("notes", "readers"), 0)
      }).pipe(Effect.provide(Surety.layerMemory))
    )

    it.effect("closes a handler's scope when it ends, whichever way", () =>
      Effect.gen(function* () {
        const events = yield* Queue.unbounded<string>()
        yield* during(
          Consumer.make(Notes, {
            group: "readers",
            defectRetry: Schedule.recurs(0),
            handler: ({ id }) =>
              Effect.andThen(
                Effect.acquireRelease(Queue.offer(events, `open ${id}`), () => Queue.offer(events, `close ${id}`)),
                id === "fails" ? new Busy({ wait: 1 }) : id === "dies" ? Effect.die("boom") : Effect.void
              )
          }).pipe(Consumer.orDeadLetter),
          Effect.gen(function* () {
            for (const id of ["ends", "fails", "dies"]) {
              yield* Producer.publish(Notes, note(id))
              assert.deepStrictEqual(yield* takeN(events, 2), [`open ${id}`, `close ${id}`])
            }
          })
        )
      }).pipe(Effect.provide(Surety.layerMemory))
    )

    it.effect("serves each group every message, and one group's members together once", () =>
      Effect.gen(function* () {
        const Spread = notes(guarantee, 4)
        const events = yield* Queue.unbounded<string>()
        const consumer = (group: string) =>
          Consumer.make(Spread, { group, handler: ({ id }) => Queue.offer(events, `${group} ${id}`) })
        const ids = ["a", "b", "c", "d", "e"]
        yield* Effect.gen(function* () {
          yield* quiet
          yield* Producer.publishAll(
            Spread,
            ids.map((id) => note(id))
          )
          const all = yield* takeN(events, 10)
          assert.deepStrictEqual(all.sort(), [...ids.map((id) => `one ${id}`), ...ids.map((id) => `two ${id}`)])
          yield* quiet
          assert.strictEqual(yield* Queue.size(events), 0)
        }).pipe(
          (body) => during(consumer("one"), body),
          (body) => during(consumer("one"), body),
          (body) => during(consumer("two"), body)
        )
      }).pipe(Effect.provide(Surety.layerMemory))
    )

    it.effect("starts at the earliest message, or at the latest when it is told to, and goes on where it was", () =>
      Effect.gen(function* () {
        const events = yield* Queue.unbounded<string>()
        const consumer = (group: string, startFrom: "earliest" | "latest") =>
          Consumer.make(Notes, { group, startFrom, handler: ({ id }) => Queue.offer(events, id) })
        yield* Producer.publish(Notes, note("before"))
        yield* during(consumer("latest", "latest"), Effect.andThen(Producer.publish(Notes, note("after")), quiet))
        assert.deepStrictEqual(yield* Queue.clear(events), ["after"])
        yield* Producer.publish(Notes, note("between"))
        yield* during(consumer("latest", "latest"), quiet)
        assert.deepStrictEqual(yield* Queue.clear(events), ["between"])
        yield* during(consumer("earliest", "earliest"), quiet)
        assert.deepStrictEqual(yield* Queue.clear(events), ["before", "after", "between"])
      }).pipe(Effect.provide(Surety.layerMemory))
    )

    it.effect("holds no more messages than prefetch, and claims again as they are settled", () =>
      Effect.gen(function* () {
        const gate = yield* Queue.unbounded<void>()
        const events = yield* Queue.unbounded<string>()
        yield* during(
          Consumer.make(Notes, {
            group: "readers",
            prefetch: 2,
            batchSize: 1,
            handler: ({ id }) => Effect.andThen(Queue.offer(events, id), Queue.take(gate))
          }),
          Effect.gen(function* () {
            const ids = Array.from({ length: 9 }, (_, i) => `m${i}`)
            yield* Producer.publishAll(
              Notes,
              ids.map((id) => note(id))
            )
            for (const id of ids) {
              assert.deepStrictEqual(yield* takeN(events, 1), [id])
              yield* Queue.offer(gate, undefined)
            }
          })
        )
        assert.strictEqual(yield* lag("notes", "readers"), 0)
      }).pipe(Effect.provide(Surety.layerMemory))
    )

    it.effect("gives partitions up to a new member in order: what runs ends first, and nothing is handled twice", () =>
      Effect.gen(function* () {
        const Spread = notes(guarantee, 2)
        const events = yield* Queue.unbounded<string>()
        const finish = yield* Deferred.make<void>()
        const consumer = (name: string) =>
          Consumer.make(Spread, {
            group: "readers",
            concurrency: 2,
            handler: ({ id }) => Effect.andThen(Queue.offer(events, `${name} ${id}`), Deferred.await(finish))
          })
        yield* during(
          consumer("one"),
          Effect.gen(function* () {
            yield* Producer.publishAll(Spread, [note("a1", "a"), note("b1", "b")])
            yield* takeN(events, 2)
            yield* during(
              consumer("two"),
              Effect.gen(function* () {
                yield* quiet
                yield* Producer.publishAll(Spread, [note("a2", "a"), note("b2", "b")])
                yield* quiet
                assert.strictEqual(yield* Queue.size(events), 0)
                yield* Deferred.succeed(finish, undefined)
                const later = yield* takeN(events, 2)
                assert.deepStrictEqual(later.map((event) => event.slice(0, 3)).sort(), ["one", "two"])
              })
            )
          })
        )
        assert.strictEqual(yield* lag("notes", "readers"), 0)
        assert.strictEqual(yield* Queue.size(events), 0)
      }).pipe(Effect.provide(Surety.layerMemory))
    )

    it.effect("interrupts its handlers when its lease is lost, settles nothing, and lives on", () => {
      const lost = Deferred.makeUnsafe<never, TransportError>()
      return Effect.gen(function* () {
        const events = yield* Queue.unbounded<string>()
        yield* during(
          Consumer.make(Notes, {
            group: "readers",
            handler: ({ id }, { epoch }) =>
              Effect.andThen(
                Queue.offer(events, `${id} ${epoch}`),
                epoch === 1 ? Effect.onInterrupt(Effect.never, () => Queue.offer(events, "interrupted")) : Effect.void
              )
          }),
          Effect.gen(function* () {
            yield* Producer.publish(Notes, note("a"))
            assert.deepStrictEqual(yield* takeN(events, 1), ["a 1"])
            yield* Deferred.fail(
              lost,
              new TransportError({
                operation: "lease",
                topic: "notes",
                reason: new Fenced({ group: "readers", partition: 0, epoch: 1 })
              })
            )
            assert.deepStrictEqual(yield* takeN(events, 2), ["interrupted", "a 2"])
          })
        )
        assert.strictEqual(yield* lag("notes", "readers"), 0)
      }).pipe(
        Effect.provide(
          layerOver(
            withAssignments((assignment) =>
              assignment.epoch === 1 ? { revoked: Effect.raceFirst(assignment.revoked, Deferred.await(lost)) } : {}
            )
          )
        )
      )
    })
  })
}
