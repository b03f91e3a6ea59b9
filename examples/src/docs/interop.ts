import { NodeRuntime } from "@effect/platform-node"
import { CloudEvents, Consumer, Producer, Surety, Topic, Transport } from "@surety/core"
import { Console, Effect, Layer, Schema } from "effect"
import { untilSettled } from "../support/untilSettled.ts"

const Sales = Topic.make("sales", {
  schema: Schema.String,
  guarantee: "exactly-once",
  partitions: 1,
  foreign: "consume" // also those that have no id
})

const Ledger = Consumer.make(Sales, {
  group: "ledger",
  handler: (sale, { headers, id }) => Console.log(`${sale}: "${id}", ${headers.ce_source ?? "no event"}`)
}).pipe(Consumer.layer)

/** What a transport finds where another program has published: bytes, and perhaps headers. */
const foreign = (sale: string, headers: Record<string, string>) =>
  Effect.flatMap(Transport.Transport, (transport) =>
    transport.publish(Topic.declaration(Sales), [
      { id: "", key: undefined, headers, time: 0, payload: new TextEncoder().encode(JSON.stringify(sale)) }
    ])
  )

const program = Effect.gen(function* () {
  yield* Producer.publish(Sales, "ours", { id: "sale-1" })
  const event = { ce_specversion: "1.0", ce_id: "17", ce_source: "/shop", ce_type: "sold" }
  yield* foreign("an event", event)
  yield* foreign("a copy of it", event)
  yield* foreign("bytes", {})
  yield* untilSettled(Sales, "ledger").pipe(Effect.provide(Ledger))
})

program.pipe(
  Effect.provide(Layer.merge(Surety.layerMemory, CloudEvents.layer({ source: "/till" }))),
  NodeRuntime.runMain
)
