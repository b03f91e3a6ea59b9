/** At-least-once: a carrier is asked to take each shipment, until it does, over an API that often refuses. */
import { Consumer } from "@surety/core"
import { Context, Effect, Layer, Schedule, Schema } from "effect"
import { HttpClient, HttpClientRequest } from "effect/http"
import { Shipments } from "./topics.ts"

/** It did not answer, or had no time. */
class CarrierBusy extends Schema.TaggedError<CarrierBusy>()("CarrierBusy", {}) {}
/** It takes nothing at this depot for now. */
class DepotClosed extends Schema.TaggedError<DepotClosed>()("DepotClosed", {}) {}

export class Carrier extends Context.Service<
  Carrier,
  {
    /** Asked twice with one key, the carrier takes one parcel. */
    readonly send: (
      key: string,
      shipment: typeof Shipments.schema.Type
    ) => Effect.Effect<void, CarrierBusy | DepotClosed>
  }
>()("@surety/examples/Carrier") {
  static readonly layer = (url: string) =>
    Layer.effect(
      Carrier,
      Effect.map(HttpClient.HttpClient, (client) => ({
        send: Effect.fn("Carrier.send")(function* (key, shipment) {
          const { headers, status } = yield* HttpClientRequest.post(`${url}/parcels`).pipe(
            HttpClientRequest.setHeader("idempotency-key", key),
            HttpClientRequest.bodyJsonUnsafe(shipment),
            client.execute,
            Effect.mapError(() => new CarrierBusy())
          )
          if (status === 201) return
          if (status === 429) return yield* Consumer.retryAfter(`${Number(headers["retry-after"])} seconds`)
          return yield* status === 409 ? new DepotClosed() : new CarrierBusy()
        })
      }))
    )
}

export const Dispatch = Consumer.make(Shipments, {
  group: "carrier",
  concurrency: 8,
  handler: (shipment, { id }) => Carrier.use((carrier) => carrier.send(id, shipment))
}).pipe(
  Consumer.retry("CarrierBusy", Schedule.exponential("50 millis").pipe(Schedule.jittered, Schedule.upTo({ times: 8 }))),
  Consumer.deadLetter(["CarrierBusy", "DepotClosed"])
)
