/** The conformance suite on a real broker: `npm run kafka:conformance`. */
import * as TransportTest from "@surety/testing/TransportTest"
import { it } from "vitest"
import { backend } from "./support/backend.ts"
import { describeKafka } from "./support/kafka.ts"

if (process.env.SURETY_KAFKA_CONFORMANCE === "1") {
  describeKafka("KafkaTransport", () => {
    TransportTest.suite("kafka", backend, { timeout: "120 seconds" })
  })
} else {
  // Ending a client whose network is frozen may take as long as librdkafka likes: not yet a test to rely on.
  const reason = "the conformance suite of Kafka runs by `npm run kafka:conformance`"
  console.info(`skipped: ${reason}`)
  it.skip(reason, () => {})
}
