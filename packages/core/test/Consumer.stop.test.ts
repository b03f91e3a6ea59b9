import { assert, describe, it } from "@effect/vitest"
import { Consumer, Producer, Surety } from "@surety/core"
import { Deferred, Effect, Exit, Fiber, Layer, Queue, Scope } from "effect"
import { TestClock } from "effect/testing"
import { TransportError, Unauthorized, Unavailable } from "../src/TransportError.ts"
import { Broken, during, lag, layerOver, letters, note, notes, quiet, seen, takeN, withAssignments } from "./support.ts"

/** Two partitions: "a" and "b" are keys of different ones. */
const Notes = notes("at-least-once", 2)

const failingOn = (id: string, events: Queue.Queue<string>) =>
  Consumer.make(Notes, {
    group: "readers",
    handler: (payload, envelope) =>
      Effect.andThen(Queue.offer(events, seen(envelope)), payload.id === id ? new Broken() : Effect.void)
  }).pipe(Consumer.stop("Broken"))

describe("stopping", () => {
  it.effect("run fails with the message's id and error, and leaves it unsettled", () =>
    Effect.gen(function* () {
      const events = yield* Queue.unbounded<string>()
      yield* Producer.publishAll(Notes, [note("a1", "a"), note("a2", "a"), note("a3", "a")])
      const error = yield* Effect.flip(Consumer.run(failingOn("a2", events)))
      assert.strictEqual(error.reason._tag, "Stopped")
      assert.deepInclude(error.reason, { id: "a2", cause: new Broken() })
      assert.deepStrictEqual(yield* Queue.clear(events), ["a1#1", "a2#1"])
      // What was handled before is stored as settled.
      assert.strictEqual(yield* lag("notes", "readers"), 2)
      assert.deepStrictEqual(yield* letters(), [])
    }).pipe(Effect.provide(Surety.layerMemory))
  )

  for (const guarantee of ["at-most-once", "at-least-once", "exactly-once"] as const) {
    it.effect(`${guarantee}: handlers of its partition that run may end, and no other begins`, () =>
      Effect.gen(function* () {
        const One = notes(guarantee)
        const events = yield* Queue.unbounded<string>()
        const finish = yield* Deferred.make<void>()
        const consumer = Consumer.make(One, {
          group: "readers",
          concurrency: 3,
          batchSize: 1,
          handler: ({ id }) =>
            Queue.offer(events, id).pipe(
              Effect.andThen(
                id === "stops"
                  ? new Broken()
                  : Effect.onInterrupt(Deferred.await(finish), () => Queue.offer(events, "!"))
              ),
              Effect.andThen(Queue.offer(events, `${id} ended`))
            )
        }).pipe(Consumer.stop("Broken"))
        yield* Producer.publishAll(One, [note("one"), note("two"), note("stops"), note("later")])
        const running = yield* Effect.forkChild(Effect.flip(Consumer.run(consumer)))
        yield* quiet
        assert.deepStrictEqual(yield* Queue.clear(events), ["one", "two", "stops"])
        yield* Deferred.succeed(finish, undefined)
        assert.strictEqual((yield* Fiber.join(running)).reason._tag, "Stopped")
        assert.deepStrictEqual(yield* Queue.clear(events), ["one ended", "two ended"])
        assert.strictEqual(yield* lag("notes", "readers"), guarantee === "at-most-once" ? 0 : 2)
      }).pipe(Effect.provide(Surety.layerMemory))
    )
  }

  it.effect("the attempt that stopped it counts for the next consumer", () =>
    Effect.gen(function* () {
      const events = yield* Queue.unbounded<string>()
      yield* Producer.publish(Notes, note("a1", "a"))
      for (const attempt of [1, 2, 3]) {
        yield* Effect.flip(Consumer.run(failingOn("a1", events)))
        assert.deepStrictEqual(yield* Queue.clear(events), [`a1#${attempt}`])
      }
      yield* during(
        failingOn("none", events),
        Effect.map(takeN(events, 1), (last) => assert.deepStrictEqual(last, ["a1#4"]))
      )
      assert.strictEqual(yield* lag("notes", "readers"), 0)
    }).pipe(Effect.provide(Surety.layerMemory))
  )

  it.effect("a consumer that runs as a layer stops as a whole, and does not begin again", () =>
    Effect.gen(function* () {
      const events = yield* Queue.unbounded<string>()
      yield* during(
        failingOn("a1", events),
        Effect.gen(function* () {
          yield* Producer.publish(Notes, note("a1", "a"))
          assert.deepStrictEqual(yield* takeN(events, 1), ["a1#1"])
          yield* quiet
          yield* TestClock.adjust("1 hour")
          yield* Producer.publish(Notes, note("b1", "b"))
          yield* quiet
          assert.deepStrictEqual(yield* Queue.clear(events), [])
        })
      )
    }).pipe(Effect.provide(Surety.layerMemory))
  )

  it.effect("lets what runs elsewhere end", () =>
    Effect.gen(function* () {
      const started = yield* Deferred.make<void>()
      const finish = yield* Deferred.make<void>()
      const ended = yield* Deferred.make<void>()
      const consumer = Consumer.make(Notes, {
        group: "readers",
        concurrency: 2,
        handler: ({ id }) =>
          id === "b1"
            ? Effect.gen(function* () {
                yield* Deferred.succeed(started, undefined)
                yield* Deferred.await(finish)
                yield* Deferred.succeed(ended, undefined)
              })
            : Effect.andThen(Deferred.await(started), new Broken())
      }).pipe(Consumer.stop("Broken"))
      yield* Producer.publishAll(Notes, [note("b1", "b"), note("a1", "a")])
      const running = yield* Effect.forkChild(Consumer.run(consumer))
      yield* Deferred.await(started)
      yield* quiet
      yield* Deferred.succeed(finish, undefined)
      assert.isTrue(Exit.isFailure(yield* Fiber.await(running)))
      assert.isTrue(Deferred.isDoneUnsafe(ended))
      assert.strictEqual(yield* lag("notes", "readers"), 1)
    }).pipe(Effect.provide(Surety.layerMemory))
  )

  it.effect("a transport error that repeating cannot mend ends the consumer", () =>
    Effect.gen(function* () {
      yield* Producer.publish(Notes, note("a1"))
      const error = yield* Effect.flip(
        Consumer.run(Consumer.make(Notes, { group: "readers", handler: () => Effect.void }))
      )
      assert.strictEqual(error.reason._tag, "TransportFailed")
      assert.include(error.message, "who are you")
    }).pipe(
      Effect.provide(
        layerOver(
          withAssignments(() => ({
            settle: () =>
              Effect.fail(
                new TransportError({
                  operation: "settle",
                  topic: "notes",
                  reason: new Unauthorized({ detail: "who are you" })
                })
              )
          }))
        )
      )
    )
  )
})

describe("a failure of the transport that may pass", () => {
  const down = (operation: string) =>
    Effect.fail(
      new TransportError({ operation, topic: "notes", reason: new Unavailable({ detail: "the store is down" }) })
    )

  it.effect("costs a lease, or a wait for the next one, and not the consumer", () => {
    const lost = Deferred.makeUnsafe<void>()
    let refusals = 2
    return Effect.gen(function* () {
      const events = yield* Queue.unbounded<string>()
      yield* during(
        Consumer.make(Notes, {
          group: "readers",
          handler: ({ id }, { epoch }) => Queue.offer(events, `${id} ${epoch}`)
        }),
        Effect.gen(function* () {
          yield* quiet
          yield* TestClock.adjust("10 seconds")
          yield* Producer.publish(Notes, note("a1", "a"))
          assert.deepStrictEqual(yield* takeN(events, 1), ["a1 1"])
          yield* Deferred.succeed(lost, undefined)
          yield* quiet
          yield* Producer.publish(Notes, note("a2", "a"))
          assert.deepStrictEqual(yield* takeN(events, 1), ["a2 2"])
        })
      )
      assert.strictEqual(yield* lag("notes", "readers"), 0)
    }).pipe(
      Effect.provide(
        layerOver((real) => ({
          subscribe: (options) =>
            Effect.map(real.subscribe(options), ({ next, ...rest }) => ({
              ...rest,
              next: Effect.suspend(() =>
                refusals-- > 0
                  ? down("next")
                  : Effect.map(next, (assignment) =>
                      assignment.epoch === 1
                        ? {
                            ...assignment,
                            revoked: Effect.raceFirst(
                              assignment.revoked,
                              Effect.andThen(Deferred.await(lost), down("lease"))
                            )
                          }
                        : assignment
                    )
              )
            }))
        }))
      )
    )
  })
})

describe("shutting down while the store cannot be reached", () => {
  it.effect("ends within the drain timeout", () =>
    Effect.gen(function* () {
      const handled = yield* Deferred.make<void>()
      const scope = yield* Scope.make()
      yield* Producer.publish(Notes, note("a1"))
      yield* Layer.buildWithScope(
        Consumer.layer(
          Consumer.make(Notes, {
            group: "readers",
            drainTimeout: "10 seconds",
            handler: () => Deferred.succeed(handled, undefined)
          })
        ),
        scope
      )
      yield* Deferred.await(handled)
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* quiet
      assert.isUndefined(closing.pollUnsafe())
      yield* TestClock.adjust("20 seconds")
      yield* Fiber.join(closing)
      assert.strictEqual(yield* lag("notes", "readers"), 1)
    }).pipe(
      Effect.provide(
        layerOver(
          withAssignments(() => ({
            settle: () =>
              Effect.fail(
                new TransportError({
                  operation: "settle",
                  topic: "notes",
                  reason: new Unavailable({ detail: "the store is down" })
                })
              )
          }))
        )
      )
    )
  )
})
