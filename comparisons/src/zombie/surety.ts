/** Ours. */
import { Producer, Topic } from "@surety/core"
import { SuretyPg } from "@surety/pg"
import { Effect } from "effect"
import { Charge, leaseMillis } from "./charge.ts"

export const Charges = Topic.make("charges", {
  schema: Charge,
  guarantee: "exactly-once",
  id: ({ id }) => id,
  partitions: 1
})

export const layerSurety = SuretyPg.layerWith({ lease: leaseMillis, pollInterval: "50 millis" })

export const offer = Effect.provide(Producer.publish(Charges, { id: "charge-1" }), layerSurety)
