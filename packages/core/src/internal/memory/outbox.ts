import * as Effect from "effect/Effect"
import { publishStoreOf } from "../../Backend.ts"
import { MemoryStore } from "../../MemoryStore.ts"
import type { Outbox } from "../../Outbox.ts"

export const make: Effect.Effect<Outbox["Service"], never, MemoryStore> = Effect.map(MemoryStore, (store) => ({
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
}))
