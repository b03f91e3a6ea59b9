import * as Effect from "effect/Effect"
import { publishStoreOf } from "../../Backend.ts"
import type { MemoryStore } from "../../MemoryStore.ts"
import type { Outbox } from "../../Outbox.ts"
import { type Site, site } from "./log.ts"

export const at = ({ store }: Pick<Site, "store">): Outbox["Service"] => ({
  store,
  description: {
    layer: "Outbox.layerMemory",
    promise: "what a handler publishes to the in-memory transport leaves if and only if its transaction commits",
    gaps: [],
    assumptions: [],
    possible: []
  },
  carries: (transport) => publishStoreOf(transport) === store,
  savepoint: Effect.undefined,
  // The transport's publish joins the transaction of the calling fiber.
  write: (records) =>
    Effect.forEach(records, ({ record, topic, transport }) => transport.publish(topic, [record]), { discard: true })
})

export const make: Effect.Effect<Outbox["Service"], never, MemoryStore> = Effect.map(site, at)
