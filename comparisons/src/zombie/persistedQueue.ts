/** The queue of Effect, in SQL. */
import { Effect, Layer } from "effect"
import { PersistedQueue } from "effect/persistence"
import { Charge, leaseMillis } from "./charge.ts"

export const layerQueue = PersistedQueue.layer.pipe(
  Layer.provide(
    PersistedQueue.layerStoreSql({
      pollInterval: "50 millis",
      lockExpiration: leaseMillis,
      lockRefreshInterval: leaseMillis / 4
    })
  )
)

export const charges = PersistedQueue.make({ name: "charges", schema: Charge })

export const offer = charges.pipe(
  Effect.flatMap((queue) => queue.offer({ id: "charge-1" }, { id: "charge-1" })),
  Effect.provide(layerQueue)
)
