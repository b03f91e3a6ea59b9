/** Delayed delivery is a capability: what publishing with a delay requires, and what a user sees where it is not provided. */
import {
  type Acks,
  AtLeastOnce,
  Channel,
  Consumer,
  type DelayedDelivery,
  type ExactlyOnce,
  Producer,
  type PublishError,
  Surety,
  Topic,
  type Transport
} from "@surety/core"
import { DateTime, type Duration, Effect, Layer, Schema } from "effect"
import { describe, expect, it } from "tstyche"

class Audit extends Channel.make("Audit") {}

const Orders = Topic.make("orders", { schema: Schema.String, guarantee: "at-least-once" })
const Payments = Topic.make("payments", { schema: Schema.String, guarantee: "exactly-once" })
const AuditLog = Topic.make("audit", { schema: Schema.String, guarantee: "at-least-once", channel: Audit })

declare const run: <A, E>(program: Effect.Effect<A, E>) => void
declare const plain: Layer.Layer<Transport.Transport | Acks.Acks>
declare const sometimes: Duration.Input | undefined

const withoutDelay = AtLeastOnce.layer.pipe(Layer.provide(plain))

type Published<R> = Effect.Effect<Producer.Receipt, PublishError, R>

describe("publishing with a delay", () => {
  it("does not compile over a transport that cannot", () => {
    // @ts-expect-error Type 'DelayedDelivery' is not assignable to type 'never'.
    run(Producer.publish(Orders, "a", { delay: "1 minute" }).pipe(Effect.provide(withoutDelay)))
    // @ts-expect-error Type 'DelayedDelivery' is not assignable to type 'never'.
    run(Producer.publishAll(Orders, ["a"], { deliverAt: new Date() }).pipe(Effect.provide(withoutDelay)))
    run(Producer.publish(Orders, "a").pipe(Effect.provide(withoutDelay)))
    run(Producer.publish(Orders, "a", { id: "1", headers: {} }).pipe(Effect.provide(withoutDelay)))
    run(Producer.publish(Orders, "a", { delay: "1 minute" }).pipe(Effect.provide(Surety.layerMemory)))
  })

  it("requires delayed delivery, on the topic's channel", () => {
    expect(Producer.publish(Orders, "a", { delay: 5 })).type.toBe<
      Published<AtLeastOnce | DelayedDelivery.DelayedDelivery>
    >()
    expect(Producer.publish(Payments, "a", { id: "1", deliverAt: DateTime.nowUnsafe() })).type.toBe<
      Published<ExactlyOnce | DelayedDelivery.DelayedDelivery>
    >()
    expect(Producer.publish(AuditLog, "a", { delay: "1 day" })).type.toBe<
      Published<Channel.On<AtLeastOnce, Audit> | Channel.On<DelayedDelivery.DelayedDelivery, Audit>>
    >()
    const unnamed = Layer.merge(withoutDelay.pipe(Channel.on(Audit)), Surety.layerMemory)
    // @ts-expect-error Type 'On<DelayedDelivery, Audit>' is not assignable to type 'never'.
    run(Producer.publish(AuditLog, "a", { delay: 1 }).pipe(Effect.provide(unnamed)))
    run(Producer.publish(AuditLog, "a", { delay: 1 }).pipe(Effect.provide(Surety.layerMemory.pipe(Channel.on(Audit)))))
  })

  it("requires it also where there may be a delay", () => {
    expect(Producer.publish(Orders, "a", { delay: sometimes })).type.toBe<
      Published<AtLeastOnce | DelayedDelivery.DelayedDelivery>
    >()
    expect(Producer.publish(Orders, "a", { delay: undefined })).type.toBe<Published<AtLeastOnce>>()
    const options: Producer.Options = { key: "k" }
    expect(Producer.publish(Orders, "a", options)).type.toBe<Published<AtLeastOnce>>()
  })

  it("in a handler, the consumer requires it", () => {
    const consumer = Consumer.make(Payments, {
      group: "g",
      handler: (text) => Producer.publish(Orders, text, { delay: "1 hour" })
    })
    expect(consumer.pipe(Consumer.orDeadLetter, Consumer.layer)).type.toBeAssignableTo<
      Layer.Layer<never, unknown, ExactlyOnce | AtLeastOnce | DelayedDelivery.DelayedDelivery>
    >()
    expect(consumer.pipe(Consumer.orDeadLetter, Consumer.layer)).type.not.toBeAssignableTo<
      Layer.Layer<never, unknown, ExactlyOnce | AtLeastOnce>
    >()
  })

  it("takes durations and points in time, and nothing that it does not know", () => {
    // @ts-expect-error Type '"soon"' is not assignable to type
    Producer.publish(Orders, "a", { delay: "soon" })
    // @ts-expect-error Type 'string' is not assignable to type 'Moment | undefined'.
    Producer.publish(Orders, "a", { deliverAt: "2026-01-01" })
    // @ts-expect-error Object literal may only specify known properties, but 'dealy' does not exist
    Producer.publish(Orders, "a", { id: "1", dealy: "1 minute" })
    // @ts-expect-error Argument of type 'number' is not assignable to parameter of type 'string'.
    Producer.publish(Orders, 1, { delay: "1 minute" })
  })
})
