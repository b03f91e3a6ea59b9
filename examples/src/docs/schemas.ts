import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Consumer, Producer, Topic } from "@surety/core"
import { SuretyPg } from "@surety/pg"
import { Config, Console, Effect, Schema } from "effect"
import { untilSettled } from "../support/untilSettled.ts"

const Orders = Topic.make("orders", { schema: Schema.String, guarantee: "exactly-once", id: (order) => order })

/** Two apps in one database: what one of them stores, the other one does not see. */
const app = (schema: string) =>
  Effect.gen(function* () {
    yield* Producer.publish(Orders, `order of the ${schema}`)
    const worker = Consumer.make(Orders, {
      group: "worker",
      handler: (order) => Console.log(`${schema}: ${order}`)
    }).pipe(Consumer.layer)
    yield* untilSettled(Orders, "worker").pipe(Effect.provide(worker))
  }).pipe(
    Effect.provide(SuretyPg.layerWith({ schema, lease: "10 seconds", retention: { log: "7 days", inbox: "8 days" } }))
  )

const program = Effect.forEach(["billing", "shop floor"], app)

program.pipe(Effect.provide(PgClient.layerConfig({ url: Config.Redacted("DATABASE_URL") })), NodeRuntime.runMain)
