/** What acknowledgements a transport provides, and that Kafka's transaction is no database's. */
import {
  type Acks,
  AtLeastOnce,
  Consumer,
  ExactlyOnce,
  KafkaExactlyOnce,
  Producer,
  Topic,
  Transaction,
  type Transport
} from "@surety/core"
import { type KafkaClient, type KafkaClientError, KafkaTransactions, KafkaTransport } from "@surety/kafka"
import { Effect, Layer, Schema } from "effect"
import { describe, expect, it } from "tstyche"

const Copies = Topic.make("copies", { schema: Schema.String, guarantee: "exactly-once-kafka" })
const Payments = Topic.make("payments", { schema: Schema.String, guarantee: "exactly-once" })

declare const launch: <A, E>(layer: Layer.Layer<A, E>) => void
declare const kafka: Layer.Layer<KafkaClient.KafkaClient>

const durable = KafkaTransport.layer({ acks: "all" }).pipe(Layer.provide(kafka))
const transactions = KafkaTransactions.layer({ transactionalId: "copier-1" }).pipe(Layer.provide(kafka))
const Copier = Consumer.layer(Consumer.make(Copies, { group: "copier", handler: () => Effect.void }))
const Ledger = Consumer.layer(Consumer.make(Payments, { group: "ledger", handler: () => Effect.void }))

describe("acknowledgements", () => {
  it("come with acks all, and with nothing less", () => {
    expect(KafkaTransport.layer({ acks: "all" })).type.toBe<
      Layer.Layer<Transport.Transport | Acks.Acks, KafkaClientError, KafkaClient.KafkaClient>
    >()
    expect(KafkaTransport.layer({ acks: "leader" })).type.toBe<
      Layer.Layer<Transport.Transport, KafkaClientError, KafkaClient.KafkaClient>
    >()
    expect(KafkaTransport.layer({ acks: "none" })).type.toBe<
      Layer.Layer<Transport.Transport, KafkaClientError, KafkaClient.KafkaClient>
    >()
  })

  it("are what at-least-once is made of", () => {
    launch(AtLeastOnce.layer.pipe(Layer.provide(durable)))
    const weak = KafkaTransport.layer({ acks: "leader" }).pipe(Layer.provide(kafka))
    // @ts-expect-error Type 'Acks' is not assignable to type 'never'.
    launch(AtLeastOnce.layer.pipe(Layer.provide(weak)))
  })
})

describe("exactly-once-kafka", () => {
  const guarantee = KafkaExactlyOnce.layer.pipe(Layer.provide(AtLeastOnce.layer))

  it("is made of at-least-once delivery and the cluster's transactions", () => {
    launch(Copier.pipe(Layer.provide(guarantee), Layer.provide([durable, transactions])))
    // @ts-expect-error Type 'LogTransactions' is not assignable to type 'never'.
    launch(Copier.pipe(Layer.provide(guarantee), Layer.provide(durable)))
  })

  it("is no exactly-once of a database, nor the other way round", () => {
    // @ts-expect-error Type 'ExactlyOnce' is not assignable to type 'never'.
    launch(Ledger.pipe(Layer.provide(guarantee), Layer.provide([durable, transactions])))
    // @ts-expect-error Type 'KafkaExactlyOnce' is not assignable to type 'never'.
    launch(Copier.pipe(Layer.provide(ExactlyOnce.layer as unknown as Layer.Layer<ExactlyOnce>)))
  })

  it("gives a handler no transaction of a database", () => {
    const asking = Consumer.make(Copies, { group: "copier", handler: () => Transaction })
    // @ts-expect-error Type 'Transaction' is not assignable to type 'never'.
    launch(Consumer.layer(asking).pipe(Layer.provide(guarantee), Layer.provide([durable, transactions])))
    Producer.publish(Copies, "a")
  })
})
