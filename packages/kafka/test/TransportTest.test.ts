/** The conformance suite on a real broker. */
import * as TransportTest from "@surety/testing/TransportTest"
import { backend } from "./support/backend.ts"
import { describeKafka } from "./support/kafka.ts"

describeKafka("KafkaTransport", () => {
  TransportTest.suite("kafka", backend, { timeout: "120 seconds" })
})
