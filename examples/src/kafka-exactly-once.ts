/**
 * Exactly-once from topic to topic, on Kafka alone: the offsets of the orders that
 * are consumed, and the invoices that are published for them, commit in one Kafka
 * transaction. The handler fails once, after it has published: its invoice is
 * aborted with it.
 */
import { NodeRuntime } from "@effect/platform-node"
import { AtLeastOnce, Consumer, KafkaExactlyOnce, Producer, Topic } from "@surety/core"
import { KafkaDeadLetters, KafkaTransactions, KafkaTransport } from "@surety/kafka"
import { Console, Effect, Layer, Schedule, Schema } from "effect"
import * as Kafka from "./support/kafka.ts"
import { untilSettled } from "./support/untilSettled.ts"

const Orders = Topic.make("orders", {
  schema: Schema.Struct({ id: Schema.String, customer: Schema.String, cents: Schema.Int }),
  guarantee: "exactly-once-kafka",
  id: (order) => order.id,
  key: (order) => order.customer
})

const Invoices = Topic.make("invoices", {
  schema: Schema.Struct({ order: Schema.String, cents: Schema.Int }),
  guarantee: "at-least-once",
  id: (invoice) => invoice.order
})

let fails = true

const Invoicing = Consumer.make(Orders, {
  group: "invoicing",
  handler: Effect.fn("Invoicing")(function* ({ cents, id }) {
    yield* Producer.publish(Invoices, { order: id, cents })
    if (!fails) return
    fails = false
    yield* Effect.die("after it has published")
  })
}).pipe(Consumer.retry(Schedule.spaced("100 millis")), Consumer.orDeadLetter, Consumer.layer)

/** Readers of committed records see each invoice once; one that is aborted, they never see. */
const received: Array<string> = []
const Mailing = Consumer.make(Invoices, {
  group: "mailing",
  handler: ({ cents, order }) => Effect.sync(() => void received.push(`${order}: ${cents}`))
}).pipe(Consumer.layer)

const program = Effect.gen(function* () {
  yield* Producer.publishAll(
    Orders,
    [1200, 300, 4500, 700, 90].map((cents, index) => ({
      id: `order-${index}`,
      customer: `customer-${index % 2}`,
      cents
    }))
  )
  yield* Effect.gen(function* () {
    yield* untilSettled(Orders, "invoicing")
    yield* untilSettled(Invoices, "mailing")
  }).pipe(Effect.provide([Invoicing, Mailing]))
  for (const invoice of received.sort()) yield* Console.log(invoice)
  yield* Console.log(`failed after publishing: ${fails ? "never" : "once"}`)
})

const Live = KafkaExactlyOnce.layer.pipe(
  Layer.provideMerge(AtLeastOnce.layer),
  Layer.provide(KafkaTransactions.layer({ transactionalId: "invoicing-1" })), // one for each instance of the program
  Layer.provideMerge(KafkaTransport.layer({ acks: "all" })),
  Layer.provideMerge(KafkaDeadLetters.layer),
  Layer.provide(Kafka.layer) // KafkaClient.layer({ bootstrapServers }), in an app
)

program.pipe(Effect.provide(Live), NodeRuntime.runMain)
