/**
 * A database in front of Kafka: an order and its message are committed together,
 * or not at all, and a relay sends what is committed. Nothing of an order that is
 * rolled back leaves; nothing that is committed stays behind.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Channel, Consumer, Producer, Topic } from "@surety/core"
import { KafkaTransport } from "@surety/kafka"
import * as SuretyPg from "@surety/pg/SuretyPg"
import * as TestPostgres from "@surety/testing/TestPostgres"
import { Console, Effect, Layer, Queue, Schema } from "effect"
import { SqlClient } from "effect/sql"
import * as Kafka from "./support/kafka.ts"

class Broker extends Channel.make("Broker") {}

const Shipments = Topic.make("shipments", {
  schema: Schema.Struct({ order: Schema.String, product: Schema.String }),
  guarantee: "at-least-once",
  id: (shipment) => shipment.order,
  key: (shipment) => shipment.product,
  channel: Broker
})

const place = (order: string, product: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.gen(function* () {
      yield* sql`INSERT INTO placed ${sql.insert({ name: order, product })}`
      yield* Producer.publish(Shipments, { order, product }) // leaves if and only if the transaction commits
      const left =
        yield* sql`UPDATE stock SET pieces = pieces - 1 WHERE product = ${product} AND pieces > 0 RETURNING pieces`
      if (left.length === 0) yield* Effect.fail("out of stock" as const)
    }).pipe(sql.withTransaction)
  ).pipe(
    Effect.matchEffect({
      onFailure: (error) => Console.log(`${order}: rolled back, ${error}`),
      onSuccess: () => Console.log(`${order}: placed`)
    })
  )

const program = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`CREATE TABLE stock (product text PRIMARY KEY, pieces int NOT NULL)`
  yield* sql`CREATE TABLE placed (name text NOT NULL, product text NOT NULL)`
  yield* sql`INSERT INTO stock VALUES ('book', 1), ('lamp', 2)`
  yield* place("order-1", "book")
  yield* place("order-2", "book")
  yield* place("order-3", "lamp")
  yield* place("order-4", "lamp")

  // Any program that reads Kafka sees them, each with its id; the relay may send one again, under the same.
  const arrived = yield* Queue.unbounded<string>()
  const Shipping = Consumer.make(Shipments, { group: "shipping", handler: ({ order }) => Queue.offer(arrived, order) })
  const ids = new Set<string>()
  yield* Effect.repeat(
    Effect.map(Queue.take(arrived), (order) => ids.add(order)),
    { until: () => ids.size === 3 }
  ).pipe(Effect.provide(Consumer.layer(Shipping)))
  yield* Console.log(`at Kafka: ${Array.from(ids).sort().join(", ")}`)
})

const BrokerLive = SuretyPg.layerAcross().pipe(
  Layer.provide(KafkaTransport.layer({ acks: "all" })),
  Layer.provide(Kafka.layer), // KafkaClient.layer({ bootstrapServers }), in an app
  Channel.on(Broker)
)

program.pipe(
  Effect.provide(
    BrokerLive.pipe(
      Layer.provideMerge(SuretyPg.layer),
      Layer.provideMerge(TestPostgres.layerClient.pipe(Layer.provide(TestPostgres.layer))) // PgClient.layer, in an app
    )
  ),
  NodeRuntime.runMain
)
