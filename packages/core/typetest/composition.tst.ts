/** What a user sees when a layer is missing, or a guarantee is made of the wrong ones. */
import {
  type Acks,
  AtLeastOnce,
  AtMostOnce,
  Channel,
  Consumer,
  type DeadLetters,
  ExactlyOnce,
  type Guarantee,
  type Inbox,
  type Outbox,
  Producer,
  type PublishError,
  Surety,
  Topic,
  type Transport
} from "@surety/core"
import { Effect, Layer, Schema } from "effect"
import { describe, expect, it } from "tstyche"

const Payments = Topic.make("payments", { schema: Schema.String, guarantee: "exactly-once" })
const Orders = Topic.make("orders", { schema: Schema.String, guarantee: "at-least-once" })
const Metrics = Topic.make("metrics", { schema: Schema.String, guarantee: "at-most-once" })

/** What runs an app: nothing may be left to provide. */
declare const launch: <A, E>(layer: Layer.Layer<A, E>) => void
declare const run: <A, E>(program: Effect.Effect<A, E>) => void

declare const transport: Layer.Layer<Transport.Transport>
declare const acks: Layer.Layer<Acks.Acks>
declare const inbox: Layer.Layer<Inbox.Inbox>
declare const outbox: Layer.Layer<Outbox.Outbox>

const Ledger = Consumer.layer(Consumer.make(Payments, { group: "ledger", handler: () => Effect.void }))

describe("what is missing is named", () => {
  it("the guarantee", () => {
    // @ts-expect-error Type 'ExactlyOnce' is not assignable to type 'never'.
    launch(Ledger)
    // @ts-expect-error Type 'ExactlyOnce' is not assignable to type 'never'.
    launch(Ledger.pipe(Layer.provide(AtLeastOnce.layer), Layer.provide([transport, acks])))
    // @ts-expect-error Type 'ExactlyOnce' is not assignable to type 'never'.
    run(Producer.publish(Payments, "a"))
    // @ts-expect-error Type 'AtLeastOnce' is not assignable to type 'never'.
    run(Producer.publish(Orders, "a"))
    // @ts-expect-error Type 'AtMostOnce' is not assignable to type 'never'.
    run(Producer.publishAll(Metrics, ["a"]))
  })

  it("the transport", () => {
    // @ts-expect-error Type 'Transport' is not assignable to type 'never'.
    launch(AtMostOnce.layer)
    // @ts-expect-error Type 'Transport' is not assignable to type 'never'.
    launch(AtLeastOnce.layer.pipe(Layer.provide(acks)))
  })

  it("the acks: a transport that does not wait for them is not enough", () => {
    // @ts-expect-error Type 'Acks' is not assignable to type 'never'.
    launch(AtLeastOnce.layer.pipe(Layer.provide(transport)))
  })

  it("the inbox", () => {
    // @ts-expect-error Type 'Inbox' is not assignable to type 'never'.
    launch(ExactlyOnce.layer.pipe(Layer.provide(AtLeastOnce.layer), Layer.provide([transport, acks, outbox])))
    // @ts-expect-error Type 'Inbox' is not assignable to type 'never'.
    launch(Ledger.pipe(Layer.provide(Surety.layer), Layer.provide([transport, acks, outbox])))
  })

  it("the outbox", () => {
    // @ts-expect-error Type 'Outbox' is not assignable to type 'never'.
    launch(ExactlyOnce.layer.pipe(Layer.provide(AtLeastOnce.layer), Layer.provide([transport, acks, inbox])))
  })

  it("a weaker guarantee does not stand in for a stronger one", () => {
    // @ts-expect-error Type 'AtLeastOnce' is not assignable to type 'never'.
    launch(ExactlyOnce.layer.pipe(Layer.provide(AtMostOnce.layer), Layer.provide([transport, inbox, outbox])))
    // @ts-expect-error Type 'AtLeastOnce' is not assignable to type 'never'.
    run(Producer.publish(Orders, "a").pipe(Effect.provide(AtMostOnce.layer.pipe(Layer.provide(transport)))))
  })
})

describe("what is complete compiles", () => {
  it("part by part, or in one line", () => {
    const parts = Layer.mergeAll(transport, acks, inbox, outbox)
    launch(Ledger.pipe(Layer.provide(ExactlyOnce.layer), Layer.provide(AtLeastOnce.layer), Layer.provide(parts)))
    launch(Ledger.pipe(Layer.provide(Surety.layerMemory)))
    expect(Surety.layer).type.toBe<
      Layer.Layer<
        AtMostOnce | AtLeastOnce | ExactlyOnce,
        Guarantee.CompositionError,
        Transport.Transport | Acks.Acks | Inbox.Inbox | Outbox.Outbox
      >
    >()
    expect(Surety.layerMemory).type.toBe<Layer.Layer<Surety.Services, Guarantee.CompositionError>>()
    expect<DeadLetters.DeadLetters>().type.toBeAssignableTo<Surety.Services>()
  })

  it("a topic's guarantee is what publishing to it requires", () => {
    expect(Producer.publish(Payments, "a")).type.toBe<Effect.Effect<Producer.Receipt, PublishError, ExactlyOnce>>()
    expect(Producer.publishNow(Orders, "a")).type.toBe<Effect.Effect<Producer.Receipt, PublishError, AtLeastOnce>>()
    expect(Producer.publish(Orders, "a")).type.toBe<Effect.Effect<Producer.Receipt, PublishError, AtLeastOnce>>()
    expect(Producer.publishAll(Metrics, ["a"])).type.toBe<
      Effect.Effect<ReadonlyArray<Producer.Receipt>, PublishError, AtMostOnce>
    >()
  })
})

describe("guarantees cannot be forged", () => {
  it("by a layer, nor by hand", () => {
    // @ts-expect-error Property '[seal]' is missing in type
    Layer.succeed(AtMostOnce, {
      transport: {} as Transport.Transport["Service"],
      confirmation: undefined,
      unit: undefined
    })
    // @ts-expect-error Property '[seal]' is missing in type
    AtMostOnce.of({ transport: {} as Transport.Transport["Service"], confirmation: undefined, unit: undefined })
  })

  it("from a weaker one", () => {
    const weaker = Effect.map(AtLeastOnce, (delivery) => delivery)
    // @ts-expect-error Type '"at-least-once"' is not assignable to type '"exactly-once"'.
    Layer.effect(ExactlyOnce, weaker)
  })

  it("by another name", () => {
    // @ts-expect-error Type '"twice"' is not assignable to type 'Name'.
    Topic.make("a", { schema: Schema.String, guarantee: "twice" })
  })
})

describe("channels", () => {
  class Audit extends Channel.make("Audit") {}
  class Billing extends Channel.make("Billing") {}
  const AuditLog = Topic.make("log", { schema: Schema.String, guarantee: "at-least-once", channel: Audit })

  it("have services of their own", () => {
    expect(Producer.publish(AuditLog, "a")).type.toBe<
      Effect.Effect<Producer.Receipt, PublishError, Channel.On<AtLeastOnce, Audit>>
    >()
    run(Producer.publish(AuditLog, "a").pipe(Effect.provide(Surety.layerMemory.pipe(Channel.on(Audit)))))
  })

  it("are not satisfied by another one's layers, nor by the unnamed one's", () => {
    // @ts-expect-error Type 'On<AtLeastOnce, Audit>' is not assignable to type 'never'.
    run(Producer.publish(AuditLog, "a").pipe(Effect.provide(Surety.layerMemory)))
    // @ts-expect-error Type 'On<AtLeastOnce, Audit>' is not assignable to type 'never'.
    run(Producer.publish(AuditLog, "a").pipe(Effect.provide(Surety.layerMemory.pipe(Channel.on(Billing)))))
    // @ts-expect-error Type 'AtLeastOnce' is not assignable to type 'never'.
    run(Producer.publish(Orders, "a").pipe(Effect.provide(Surety.layerMemory.pipe(Channel.on(Audit)))))
  })

  it("move what a layer needs as well", () => {
    expect(AtLeastOnce.layer.pipe(Channel.on(Audit))).type.toBe<
      Layer.Layer<
        Channel.On<AtLeastOnce, Audit>,
        never,
        Channel.On<Transport.Transport, Audit> | Channel.On<Acks.Acks, Audit>
      >
    >()
  })
})
