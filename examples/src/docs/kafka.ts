import { NodeRuntime } from "@effect/platform-node"
import { AtLeastOnce, Consumer, KafkaExactlyOnce, Producer, Topic, Transport } from "@surety/core"
import { KafkaClient, KafkaDeadLetters, KafkaTransactions, KafkaTransport } from "@surety/kafka"
import { Config, Console, Effect, Layer, Schedule, Schema } from "effect"

const Orders = Topic.make("docs.orders", {
  schema: Schema.Struct({ id: Schema.String, cents: Schema.Int }),
  guarantee: "exactly-once-kafka",
  id: ({ id }) => id
})
const Invoices = Topic.make("docs.invoices", {
  schema: Schema.Struct({ order: Schema.String, cents: Schema.Int }),
  guarantee: "at-least-once"
})

const Invoicing = Consumer.make(Orders, {
  group: "invoicing",
  handler: Effect.fn("Invoicing")(function* ({ cents, id }) {
    // In the transaction that settles the order.
    yield* Producer.publish(Invoices, { order: id, cents })
  })
}).pipe(Consumer.orDeadLetter, Consumer.layer)

const Live = KafkaExactlyOnce.layer.pipe(
  Layer.provideMerge(AtLeastOnce.layer),
  Layer.provide(KafkaTransactions.layer({ transactionalId: "invoicing-1" })),
  Layer.provideMerge(KafkaTransport.layer({ acks: "all" })),
  Layer.provideMerge(KafkaDeadLetters.layer),
  Layer.provide(KafkaClient.layerConfig({ bootstrapServers: Config.String("KAFKA_BOOTSTRAP_SERVERS") }))
)

const program = Effect.gen(function* () {
  yield* Producer.publishAll(Orders, [
    { id: "order-1", cents: 1200 },
    { id: "order-2", cents: 300 }
  ])
  const transport = yield* Transport.Transport
  const lag = Effect.map(transport.progress(Orders.name, "invoicing"), (partitions) =>
    partitions.reduce((total, { lag }) => total + lag, 0)
  )
  yield* lag.pipe(
    Effect.repeat({ until: (left) => left === 0, schedule: Schedule.spaced("50 millis") }),
    Effect.provide(Invoicing)
  )
  yield* Console.log(`orders without an invoice: ${yield* lag}`)
})

program.pipe(Effect.provide(Live), NodeRuntime.runMain)
