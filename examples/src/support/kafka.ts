/** The Kafka of an example. */
import { KafkaClient } from "@surety/kafka"
import * as TestKafka from "@surety/testing/TestKafka"
import { Console, Effect, Layer, Runtime, Schema } from "effect"

/** It has said why. */
class NoKafka extends Schema.TaggedError<NoKafka>()("NoKafka", {}) {
  override readonly [Runtime.errorReported] = false
}

/** The cluster of `KAFKA_BOOTSTRAP_SERVERS`, or a broker that lives as long as the program. Where there is neither, the program says so, and ends. */
export const layerCluster = Layer.effectContext(
  Layer.build(TestKafka.layer).pipe(
    Effect.tapError(({ message }) => Console.error(message)),
    Effect.mapError(() => new NoKafka())
  )
)

/** A client of it. A member that is gone is missed after six seconds, the least that clusters allow by default. */
export const layerClient = (bootstrapServers: string) =>
  KafkaClient.layer({ bootstrapServers, sessionTimeout: "6 seconds", rebalanceTimeout: "20 seconds" })

export const layer = Layer.unwrap(
  Effect.map(TestKafka.TestKafka, ({ bootstrapServers }) => layerClient(bootstrapServers))
).pipe(Layer.provide(layerCluster))
