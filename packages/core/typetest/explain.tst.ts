/** What explaining an app requires: what its layers do, and the guarantees of what it is said to publish. */
import {
  type AtLeastOnce,
  Channel,
  type ConsumeError,
  Consumer,
  type ExactlyOnce,
  Explain,
  type Guarantee,
  Surety,
  Topic
} from "@surety/core"
import { Effect, type Layer, Schema } from "effect"
import { describe, expect, it } from "tstyche"

class Audit extends Channel.make("Audit") {}
const Payments = Topic.make("payments", { schema: Schema.String, guarantee: "exactly-once" })
const Receipts = Topic.make("receipts", { schema: Schema.Int, guarantee: "exactly-once" })
const Log = Topic.make("log", { schema: Schema.String, guarantee: "at-least-once", channel: Audit })
const Ledger = Consumer.layer(Consumer.make(Payments, { group: "ledger", handler: () => Effect.void }))

declare const run: <A, E>(program: Effect.Effect<A, E>) => void

describe("explain", () => {
  it("requires what the layer requires, and fails as it does", () => {
    expect(Surety.explain(Ledger)).type.toBe<Effect.Effect<Explain.Explanation, ConsumeError, ExactlyOnce>>()
    // @ts-expect-error Type 'ExactlyOnce' is not assignable to type 'never'.
    run(Surety.explain(Ledger))
  })

  it("requires the guarantees of what is published, unless the app provides them", () => {
    expect(Surety.explain(Ledger, { publishes: [Receipts, Log] })).type.toBe<
      Effect.Effect<Explain.Explanation, ConsumeError, ExactlyOnce | Channel.On<AtLeastOnce, Audit>>
    >()
    expect(Surety.explain(Surety.layerMemory, { publishes: [Payments, Receipts, Log] })).type.toBe<
      Effect.Effect<Explain.Explanation, Guarantee.CompositionError, Channel.On<AtLeastOnce, Audit>>
    >()
    // @ts-expect-error Type 'On<AtLeastOnce, Audit>' is not assignable to type 'never'.
    run(Surety.explain(Surety.layerMemory, { publishes: [Log] }))
  })

  it("takes them from a layer of the app as well", () => {
    expect(Explain.publishing(Payments, Receipts, Log)).type.toBe<
      Layer.Layer<never, never, ExactlyOnce | Channel.On<AtLeastOnce, Audit>>
    >()
  })
})

describe("check", () => {
  it("fails with what is not met, and takes only names of guarantees", () => {
    expect(Surety.check(Ledger, { payments: "exactly-once" })).type.toBe<
      Effect.Effect<Explain.Explanation, ConsumeError | Explain.GuaranteeNotMet, ExactlyOnce>
    >()
    // @ts-expect-error Type '"twice"' is not assignable to type 'Name'.
    Surety.check(Ledger, { payments: "twice" })
  })
})
