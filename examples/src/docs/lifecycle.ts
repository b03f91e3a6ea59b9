import { NodeRuntime } from "@effect/platform-node"
import { Consumer, Producer, Surety, Topic } from "@surety/core"
import { Console, Effect, Schedule, Schema, Stream } from "effect"
import { untilSettled } from "../support/untilSettled.ts"

const Jobs = Topic.make("jobs", { schema: Schema.String, guarantee: "at-least-once", partitions: 2 })

const Worker = Consumer.make(Jobs, {
  group: "worker",
  drainTimeout: "30 seconds", // for what runs when it stops
  restart: Schedule.exponential("1 second"), // after a transport error that repeating did not mend
  handler: (job) => Console.log(`done: ${job}`)
})

const program = Effect.gen(function* () {
  const running = yield* Consumer.start(Worker) // Consumer.layer and Consumer.run are made of it
  yield* running.changes.pipe(
    Stream.takeUntil(({ partitions }) => partitions.length === Jobs.partitions),
    Stream.runDrain
  )
  yield* Console.log("started:", yield* running.status)

  yield* running.pause
  yield* Producer.publish(Jobs, "one") // waits, in this process or for another one
  yield* Console.log("paused:", yield* running.status)

  yield* running.resume
  yield* untilSettled(Jobs, "worker")
  return running
}).pipe(
  Effect.scoped, // the scope closes: it drains, and gives its partitions back
  Effect.flatMap(({ status }) => status),
  Effect.flatMap((status) => Console.log("drained:", status))
)

program.pipe(Effect.provide(Surety.layerMemory), NodeRuntime.runMain)
