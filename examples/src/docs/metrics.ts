import { NodeRuntime } from "@effect/platform-node"
import { Consumer, Producer, Surety, Topic } from "@surety/core"
import { Console, Effect, Metric, Schema } from "effect"
import { untilSettled } from "../support/untilSettled.ts"

const Payments = Topic.make("payments", { schema: Schema.String, guarantee: "exactly-once", id: (id) => id })

const Ledger = Consumer.make(Payments, { group: "ledger", handler: () => Effect.void }).pipe(Consumer.layer)

const program = Effect.gen(function* () {
  yield* Producer.publishAll(Payments, ["payment-1", "payment-2", "payment-1"])
  yield* untilSettled(Payments, "ledger").pipe(Effect.provide(Ledger))
  for (const { id, state, type } of yield* Metric.snapshot) {
    if (type === "Counter") yield* Console.log(`${id}: ${state.count}`)
  }
})

program.pipe(Effect.provide(Surety.layerMemory), NodeRuntime.runMain)
