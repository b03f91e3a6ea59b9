/** What a consumer is doing, seen from outside: status, pause, restart. */
import { assert, describe, it } from "@effect/vitest"
import { Consumer, Producer, Surety, type Transport } from "@surety/core"
import { TransportError, Unauthorized } from "@surety/core/TransportError"
import { Deferred, Effect, Layer, Queue, Schedule, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Broken, layerOver, note, notes, quiet, seen, takeN } from "./support.ts"

const Notes = notes("at-least-once", 2)

/** The states that a consumer goes through, without repetitions. */
const states = (running: Consumer.Running) =>
  Effect.gen(function* () {
    const queue = yield* Queue.unbounded<string>()
    yield* running.changes.pipe(
      Stream.map(({ state }) => state),
      Stream.changes,
      Stream.runForEach((state) => Queue.offer(queue, state)),
      Effect.forkDetach
    )
    yield* quiet
    return queue
  })

describe("the status of a consumer", () => {
  it.effect("shows its state, its partitions, and the handlers that run", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const go = yield* Deferred.make<void>()
      const running = yield* Consumer.start(
        Consumer.make(Notes, { group: "readers", handler: () => Deferred.await(go) })
      ).pipe(Scope.provide(scope))
      const observed = yield* states(running)
      assert.deepStrictEqual(yield* running.status, { state: "running", partitions: [0, 1], inFlight: 0 })
      yield* Producer.publish(Notes, note("one"))
      yield* quiet
      assert.deepStrictEqual(yield* running.status, { state: "running", partitions: [0, 1], inFlight: 1 })
      const closing = yield* Effect.forkChild(Scope.close(scope, yield* Effect.exit(Effect.void)))
      yield* quiet
      // The partition with nothing in flight was given back already.
      const draining = yield* running.status
      assert.strictEqual(draining.state, "draining")
      assert.strictEqual(draining.inFlight, 1)
      assert.lengthOf(draining.partitions, 1)
      yield* Deferred.succeed(go, undefined)
      yield* Effect.andThen(
        quiet,
        Effect.sync(() => assert.isDefined(closing.pollUnsafe()))
      )
      assert.deepStrictEqual((yield* running.status).partitions, [])
      assert.deepStrictEqual(yield* takeN(observed, 2), ["running", "draining"])
    }).pipe(Effect.provide(Surety.layerMemory))
  )

  it.effect("is failed after a stop", () =>
    Effect.gen(function* () {
      const running = yield* Consumer.start(
        Consumer.make(Notes, {
          group: "readers",
          handler: () => new Broken(),
          restart: Schedule.spaced("1 second")
        }).pipe(Consumer.stop("Broken"))
      )
      yield* Producer.publish(Notes, note("one"))
      const error = yield* Effect.flip(running.failure)
      assert.strictEqual(error.reason._tag, "Stopped")
      assert.deepStrictEqual(yield* running.status, { state: "failed", partitions: [], inFlight: 0 })
    }).pipe(Effect.scoped, Effect.provide(Surety.layerMemory))
  )
})

describe("a paused consumer", () => {
  it.effect("starts no handler, keeps its partitions, and goes on where it was", () =>
    Effect.gen(function* () {
      const handled = yield* Queue.unbounded<string>()
      const running = yield* Consumer.start(
        Consumer.make(Notes, { group: "readers", handler: (_, envelope) => Queue.offer(handled, seen(envelope)) })
      )
      yield* Producer.publish(Notes, note("one", "a"))
      assert.strictEqual(yield* Queue.take(handled), "one#1")
      yield* running.pause
      yield* Producer.publishAll(Notes, [note("two", "a"), note("three", "a")])
      yield* quiet
      yield* TestClock.adjust("1 hour")
      yield* quiet
      assert.strictEqual(yield* Queue.size(handled), 0)
      assert.deepStrictEqual(yield* running.status, { state: "paused", partitions: [0, 1], inFlight: 0 })
      yield* running.resume
      assert.deepStrictEqual(yield* takeN(handled, 2), ["two#1", "three#1"])
      assert.strictEqual((yield* running.status).state, "running")
    }).pipe(Effect.scoped, Effect.provide(Surety.layerMemory))
  )

  it.effect("drains at once, with what it holds unhandled", () =>
    Effect.gen(function* () {
      const handled = yield* Queue.unbounded<string>()
      const consumer = Consumer.make(Notes, {
        group: "readers",
        handler: (_, envelope) => Queue.offer(handled, seen(envelope))
      })
      yield* Effect.scoped(
        Effect.gen(function* () {
          const { pause } = yield* Consumer.start(consumer)
          yield* pause
          yield* Producer.publish(Notes, note("one"))
          yield* quiet
        })
      )
      assert.strictEqual(yield* Queue.size(handled), 0)
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* Consumer.start(consumer)
          assert.strictEqual(yield* Queue.take(handled), "one#1")
        })
      )
    }).pipe(Effect.provide(Surety.layerMemory))
  )
})

describe("a consumer that the transport ends", () => {
  const refused = (topic: string) =>
    new TransportError({ operation: "subscribe", topic, reason: new Unauthorized({ detail: "the password expired" }) })

  /** Refuses claims while it is told to. */
  const layer = (refuse: { claims: boolean; subscriptions: boolean }) =>
    layerOver((real) => ({
      subscribe: (options) =>
        refuse.subscriptions
          ? Effect.fail(refused(options.topic.name))
          : Effect.map(real.subscribe(options), ({ next, ...rest }) => ({
              ...rest,
              next: Effect.map(
                next,
                (assignment): Transport.Assignment => ({
                  ...assignment,
                  claim: (max) =>
                    Effect.flatMap(assignment.claim(max), (records) =>
                      refuse.claims ? Effect.fail(refused(options.topic.name)) : Effect.succeed(records)
                    )
                })
              )
            }))
    }))

  it.effect("starts anew by its schedule, and loses nothing", () => {
    const refuse = { claims: false, subscriptions: false }
    return Effect.gen(function* () {
      const handled = yield* Queue.unbounded<string>()
      const running = yield* Consumer.start(
        Consumer.make(Notes, {
          group: "readers",
          restart: Schedule.spaced("1 minute"),
          handler: (_, envelope) => Queue.offer(handled, envelope.id)
        })
      )
      const observed = yield* states(running)
      refuse.claims = true
      yield* Producer.publish(Notes, note("one"))
      assert.deepStrictEqual(yield* takeN(observed, 3), ["running", "draining", "starting"])
      refuse.subscriptions = true
      yield* quiet
      yield* TestClock.adjust("1 minute")
      yield* quiet
      assert.strictEqual(yield* Queue.size(handled), 0)
      refuse.claims = false
      refuse.subscriptions = false
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* Queue.take(handled), "one")
      assert.strictEqual(yield* Queue.take(observed), "running")
    }).pipe(Effect.scoped, Effect.provide(layer(refuse)))
  })

  it.effect("fails at once when it cannot start at first", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(
        Layer.build(
          Consumer.layer(
            Consumer.make(Notes, { group: "readers", restart: Schedule.forever, handler: () => Effect.void })
          )
        )
      )
      assert.strictEqual(error.reason._tag, "TransportFailed")
    }).pipe(Effect.scoped, Effect.provide(layer({ claims: false, subscriptions: true })))
  )
})
