import { NodeRuntime } from "@effect/platform-node"
import { Consumer, Producer, Surety, Topic } from "@surety/core"
import { Console, Effect, Schema } from "effect"
import { untilSettled } from "../support/untilSettled.ts"

const Rows = Topic.make("rows", { schema: Schema.Int, guarantee: "exactly-once", id: String, partitions: 1 })

class Negative extends Schema.TaggedError<Negative>()("Negative", {}) {}

const Import = Consumer.makeBatch(Rows, {
  group: "import",
  maxSize: 8,
  maxWait: "1 second", // for the batch to be full, once it has a message
  handler: Effect.fn("Import.insert")(function* (messages) {
    const values = messages.map(({ payload }) => payload)
    if (values.some((value) => value < 0)) return yield* new Negative()
    yield* Console.log(`inserted ${values.join(" ")}`) // on PostgreSQL: one INSERT of many rows
  })
}).pipe(Consumer.deadLetter("Negative"), Consumer.layer)

const program = Effect.gen(function* () {
  yield* Producer.publishAll(Rows, [1, 2, 3, 4, 5, -6, 7, 8])
  yield* untilSettled(Rows, "import")
})

program.pipe(Effect.provide(Import), Effect.provide(Surety.layerMemory), NodeRuntime.runMain)
