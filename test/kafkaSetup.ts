/**
 * One Kafka for a whole run of the tests, which find it in
 * KAFKA_BOOTSTRAP_SERVERS. A cluster that is given there is used as it is.
 * Where none can be had the tests are skipped, and SURETY_KAFKA_MISSING says why;
 * with SURETY_REQUIRE_KAFKA=1 that is a failure.
 */
import * as TestKafka from "@surety/testing/TestKafka"
import { Context, Effect, Exit, Layer, Scope } from "effect"

// Rule 12 of KAFKA.md: it is read when a process starts, as those of the tests do after this.
process.env.UV_THREADPOOL_SIZE ??= "32"

export default async () => {
  const missing = TestKafka.unavailable()
  if (missing !== undefined) {
    if (process.env.SURETY_REQUIRE_KAFKA === "1") throw new Error(`SURETY_REQUIRE_KAFKA is set, and ${missing}`)
    process.env.SURETY_KAFKA_MISSING = missing
    console.warn(`\nThe tests on Kafka are SKIPPED: ${missing}.\n`)
    return
  }
  const scope = Scope.makeUnsafe()
  const { bootstrapServers } = await Effect.runPromise(
    Effect.map(Layer.buildWithScope(TestKafka.layer, scope), Context.get(TestKafka.TestKafka))
  )
  process.env.KAFKA_BOOTSTRAP_SERVERS = bootstrapServers
  return () => Effect.runPromise(Scope.close(scope, Exit.void))
}
