import * as Effect from "effect/Effect"
import { publishStoreOf } from "../../Backend.ts"
import type { MemoryStore } from "../../MemoryStore.ts"
import type { Outbox } from "../../Outbox.ts"
import { type Site, site } from "./log.ts"
import { CurrentSavepoint, CurrentTx } from "./transaction.ts"

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
  savepoint: CurrentSavepoint,
  // The transport's publish joins the transaction of the calling fiber.
  write: (records) =>
    Effect.flatMap(CurrentTx, (tx) =>
      Effect.forEach(
        // Invariant 8: what was published in a savepoint that was rolled back is not part of the transaction.
        records.filter(
          ({ savepoint }) =>
            store.unprotected.has("savepoint") || savepoint === undefined || tx?.rolledBack.has(savepoint) !== true
        ),
        ({ record, topic, transport }) => transport.publish(topic, [record]),
        { discard: true }
      )
    )
})

export const make: Effect.Effect<Outbox["Service"], never, MemoryStore> = Effect.map(site, at)
