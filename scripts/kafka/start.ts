/** Starts a broker for development: `npm run kafka:start -- [--port 19092]`. Ctrl-C stops it and removes its data. */
import { parseArgs } from "node:util"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as TestKafka from "@surety/testing/TestKafka"
import { Console, Effect } from "effect"

const { values } = parseArgs({ options: { port: { type: "string", default: "19092" } } })

const program = Effect.gen(function* () {
  const { bootstrapServers } = yield* TestKafka.TestKafka
  yield* Console.log(`Kafka is at ${bootstrapServers}; its data goes when it stops. Ctrl-C stops it.\n`)
  yield* Console.log(`  export KAFKA_BOOTSTRAP_SERVERS=${bootstrapServers}`)
  return yield* Effect.never
}).pipe(Effect.provide(TestKafka.layerWith({ port: Number(values.port) })))

NodeRuntime.runMain(program)
