/**
 * Testing a program on Surety: in memory, under a clock that the test moves.
 * Ack timeouts, retries and leases pass at once, and nothing is waited for.
 */
import { assert, describe, it } from "@effect/vitest"
import { AtLeastOnce, Consumer, DeadLetters, Producer, Surety, Topic, Transport } from "@surety/core"
import { Effect, Fiber, Layer, Queue, Schedule, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"

const Orders = Topic.make("orders", { schema: Schema.Struct({ id: Schema.String }), guarantee: "at-least-once" })

class WarehouseDown extends Schema.TaggedError<WarehouseDown>()("WarehouseDown", {}) {}

/** The consumer under test: tries again after 1, 2, 4 and 8 minutes. `attempts` tells the test of each try. */
const warehouse = (attempts: Queue.Queue<number>) =>
  Consumer.make(Orders, {
    group: "warehouse",
    handler: (_, { attempt }) => Effect.andThen(Queue.offer(attempts, attempt), Effect.fail(new WarehouseDown()))
  }).pipe(
    Consumer.retry(Schedule.exponential("1 minute").pipe(Schedule.upTo({ times: 4 }))),
    Consumer.orDeadLetter,
    Consumer.layer
  )

/** A transport that does not answer its first publishes. */
const silentFor = (publishes: number, sent: Queue.Queue<string>) =>
  Layer.effect(
    Transport.Transport,
    Effect.map(Transport.Transport, (transport) => ({
      ...transport,
      publish: (topic: Transport.TopicDeclaration, records: Parameters<typeof transport.publish>[1]) =>
        Effect.suspend(() => {
          Queue.offerUnsafe(sent, records[0]!.id)
          return publishes-- > 0 ? Effect.never : transport.publish(topic, records)
        })
    }))
  ).pipe(Layer.provideMerge(Transport.layerMemory))

describe("orders", () => {
  it.effect("tries a failing handler again by its schedule, then keeps the message", () =>
    Effect.gen(function* () {
      const attempts = yield* Queue.unbounded<number>()
      yield* Effect.gen(function* () {
        yield* Producer.publish(Orders, { id: "order-1" })
        assert.strictEqual(yield* Queue.take(attempts), 1)
        for (const minutes of [1, 2, 4, 8]) {
          yield* TestClock.adjust(`${minutes} minutes`)
          yield* Queue.take(attempts)
        }
      }).pipe(Effect.provide(warehouse(attempts)))

      const deadLetters = yield* DeadLetters.DeadLetters
      const [letter] = yield* Stream.runCollect(deadLetters.list())
      assert.strictEqual(letter?.failure.tag, "WarehouseDown")
      assert.strictEqual(letter?.attempts, 5)
    }).pipe(Effect.provide(Surety.layerMemory))
  )

  it.effect("publishes again when no acknowledgement comes, under the same id", () =>
    Effect.gen(function* () {
      const sent = yield* Queue.unbounded<string>()
      const publishing = Producer.publish(Orders, { id: "order-1" }).pipe(
        Effect.provide(
          AtLeastOnce.layerWith({ retry: Schedule.spaced("10 seconds") }).pipe(Layer.provide(silentFor(2, sent)))
        )
      )
      const fiber = yield* Effect.forkChild(publishing)
      yield* TestClock.adjust("5 seconds") // the first ack timeout
      yield* TestClock.adjust("10 seconds") // the retry, which is not answered either
      yield* TestClock.adjust("5 seconds")
      yield* TestClock.adjust("10 seconds")

      const receipt = yield* Fiber.join(fiber)
      assert.strictEqual(receipt.state, "stored")
      assert.deepStrictEqual(yield* Queue.takeAll(sent), [receipt.id, receipt.id, receipt.id])
    })
  )
})
