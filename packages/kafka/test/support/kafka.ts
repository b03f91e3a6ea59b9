/** Tests that need a Kafka: skipped where there is none, for the reason that the set-up of the run has printed. */
import { describe } from "@effect/vitest"

const missing = process.env.SURETY_KAFKA_MISSING

export const describeKafka = (name: string, tests: () => void): void => {
  describe.skipIf(missing !== undefined)(missing === undefined ? name : `${name} (no Kafka: ${missing})`, tests)
}

/** The cluster of the run. */
export const bootstrapServers = process.env.KAFKA_BOOTSTRAP_SERVERS ?? "none"
