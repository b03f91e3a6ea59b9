/** A member of the copying group, as a process: each batch is one transaction. Says on its standard output how large they are. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Consumer, Producer } from "@surety/core"
import { Effect } from "effect"
import { copies, layerCopy, type MemberOptions } from "./copyTopics.ts"

const options: MemberOptions = JSON.parse(process.argv[2]!)
const { from, to } = copies(options.run)

// Ends with the process that started it.
process.stdin.on("end", () => process.exit()).resume()

const Copy = Consumer.makeBatch(from, {
  group: "copy",
  maxSize: options.batch,
  maxWait: "200 millis",
  prefetch: 1_500,
  concurrency: 3,
  drainTimeout: "5 seconds",
  handler: Effect.fnUntraced(function* (messages) {
    yield* Producer.publishAll(
      to,
      messages.map(({ payload }) => payload)
    )
    // So that ends of processes and of brokers find transactions open.
    yield* Effect.sleep(options.holdMillis)
    process.stdout.write(`${messages.length}\n`)
  })
}).pipe(Consumer.orDeadLetter)

NodeRuntime.runMain(
  Consumer.run(Copy).pipe(Effect.provide(layerCopy({ bootstrapServers: options.servers, name: options.name })))
)
