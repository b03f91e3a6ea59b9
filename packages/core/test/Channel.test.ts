import { assert, describe, it } from "@effect/vitest"
import {
  AtLeastOnce,
  Channel,
  Consumer,
  DeadLetters,
  ExactlyOnce,
  Producer,
  Surety,
  Topic,
  Transaction,
  Transport
} from "@surety/core"
import { Context, Deferred, Effect, Layer, Queue, Schema, Stream } from "effect"
import { during, lag, quiet, takeN } from "./support.ts"

class Audit extends Channel.make("Audit") {}
class Billing extends Channel.make("Billing") {}

const on = <C>(channel?: Channel.ChannelClass<C>) =>
  Topic.make("log", { schema: Schema.String, guarantee: "at-least-once", partitions: 1, channel })
const Log = Topic.make("log", { schema: Schema.String, guarantee: "at-least-once", partitions: 1 })
const AuditLog = on(Audit)
const BillingLog = on(Billing)

describe("channels", () => {
  it.effect("do not see each other, nor the unnamed one", () =>
    Effect.gen(function* () {
      const events = yield* Queue.unbounded<string>()
      const reading = <C>(topic: Topic.Topic<typeof Schema.String, "at-least-once", C>, name: string) =>
        Consumer.make(topic, { group: "readers", handler: (text) => Queue.offer(events, `${name}: ${text}`) })
      yield* Effect.gen(function* () {
        yield* Producer.publish(Log, "a")
        yield* Producer.publish(AuditLog, "b")
        yield* Producer.publish(BillingLog, "c")
        assert.deepStrictEqual((yield* takeN(events, 3)).sort(), ["Audit: b", "Billing: c", "default: a"])
        yield* quiet
        assert.strictEqual(yield* Queue.size(events), 0)
      }).pipe(
        (body) => during(reading(Log, "default"), body),
        (body) => during(reading(AuditLog, "Audit"), body),
        (body) => during(reading(BillingLog, "Billing"), body)
      )
      assert.strictEqual(yield* lag("log", "readers"), 0)
      const audit = yield* Channel.key(Transport.Transport, Audit)
      assert.notStrictEqual(audit.store, (yield* Transport.Transport).store)
    }).pipe(
      Effect.provide(
        Layer.mergeAll(
          Surety.layerMemory,
          Surety.layerMemory.pipe(Channel.on(Audit)),
          Surety.layerMemory.pipe(Channel.on(Billing))
        )
      )
    )
  )

  it.effect("have dead letters and transactions of their own", () =>
    Effect.gen(function* () {
      const Sums = Topic.make("sums", {
        schema: Schema.String,
        guarantee: "exactly-once",
        partitions: 1,
        channel: Audit
      })
      const committed = yield* Deferred.make<boolean>()
      yield* during(
        Consumer.make(Sums, {
          group: "readers",
          handler: Effect.fn(function* (text) {
            const transaction = yield* Channel.key(Transaction, Audit)
            const { store } = yield* Channel.key(Transport.Transport, Audit)
            yield* transaction.afterCommit(
              Effect.asVoid(Deferred.succeed(committed, text === "good" && transaction.store === store))
            )
            if (text === "bad") return yield* Effect.fail("refused" as const)
          })
        }).pipe(Consumer.orDeadLetter),
        Effect.gen(function* () {
          yield* Producer.publishAll(Sums, ["bad", "good"])
          assert.isTrue(yield* Deferred.await(committed))
        })
      )
      const here = yield* Stream.runCollect((yield* DeadLetters.DeadLetters).list())
      const there = yield* Stream.runCollect((yield* Channel.key(DeadLetters.DeadLetters, Audit)).list())
      assert.deepStrictEqual([here.length, there.length], [0, 1])
    }).pipe(Effect.provide(Layer.merge(Surety.layerMemory, Surety.layerMemory.pipe(Channel.on(Audit)))))
  )

  it.effect("build a layer each, once", () =>
    Effect.gen(function* () {
      let built = 0
      class Resource extends Context.Service<Resource, number>()("test/Resource") {}
      const counted = Transport.layerMemory.pipe(
        Layer.provideMerge(
          Layer.effect(
            Resource,
            Effect.sync(() => ++built)
          )
        )
      )
      const app = AtLeastOnce.layer.pipe(Layer.provide(counted))
      const audit = app.pipe(Channel.on(Audit))
      yield* Effect.scoped(
        Layer.build(Layer.mergeAll(app, audit, Layer.provide(Layer.empty, audit), app.pipe(Channel.on(Billing))))
      )
      assert.strictEqual(built, 3)
    })
  )

  it.effect("take what is not per channel from the context", () =>
    Effect.gen(function* () {
      class Client extends Context.Service<Client, string>()("test/Client") {}
      class Answer extends Context.Service<Answer, string>()("test/Answer") {}
      const layer = Layer.effect(
        Answer,
        Effect.map(Client, (client) => `over ${client}`)
      ).pipe(Channel.on(Audit))
      const context = yield* Effect.scoped(Layer.build(layer.pipe(Layer.provide(Layer.succeed(Client, "one client")))))
      assert.strictEqual(Context.get(context, Answer), "over one client")
    })
  )

  it.effect("of one name are one channel", () =>
    Effect.gen(function* () {
      class Same extends Channel.make("Audit") {}
      yield* Producer.publish(on(Same), "a")
    }).pipe(Effect.provide(Surety.layerMemory.pipe(Channel.on(Audit))))
  )

  it.effect("can be composed part by part", () =>
    Effect.gen(function* () {
      const guarantee = yield* Channel.key(ExactlyOnce, Audit)
      assert.strictEqual(guarantee.transport, yield* Channel.key(Transport.Transport, Audit))
    }).pipe(Effect.provide(Surety.layerMemory.pipe(Channel.on(Audit))))
  )
})
