/** Plays the carrier: an HTTP API that takes parcels, and often does not. */
import { createServer } from "node:http"
import { NodeHttpServer } from "@effect/platform-node"
import { Effect, Schema, SubscriptionRef } from "effect"
import { HttpServerRequest, HttpServerResponse } from "effect/http"
import { Shipments } from "./topics.ts"

/** A request, and how many there were for this shipment with it. */
export interface Asked {
  readonly order: string
  readonly depot: string
  readonly times: number
}

export type Answer = "taken" | "busy" | "later" | "closed"

const responses = {
  taken: HttpServerResponse.empty({ status: 201 }),
  busy: HttpServerResponse.empty({ status: 503 }),
  later: HttpServerResponse.empty({ status: 429, headers: { "retry-after": "1" } }),
  closed: HttpServerResponse.empty({ status: 409 })
} as const

const decode = Schema.decodeUnknownEffect(Schema.fromJsonString(Shipments.schema))

/** Serves until the scope closes, and answers as it is told to. */
export const serve = Effect.fn("CarrierApi.serve")(function* (answer: (asked: Asked) => Effect.Effect<Answer>) {
  const server = yield* NodeHttpServer.make(createServer, { host: "127.0.0.1", port: 0 })
  const requests = yield* SubscriptionRef.make(0)
  const times = new Map<string, number>()
  /** The orders of the parcels that were taken, by idempotency key. */
  const parcels = new Map<string, string>()
  yield* server.serve(
    Effect.gen(function* () {
      const request = yield* HttpServerRequest.HttpServerRequest
      const key = request.headers["idempotency-key"] ?? ""
      const { depot, order } = yield* decode(yield* request.text)
      times.set(key, (times.get(key) ?? 0) + 1)
      yield* SubscriptionRef.update(requests, (count) => count + 1)
      const given = yield* answer({ order, depot, times: times.get(key)! })
      if (given === "taken") parcels.set(key, order)
      return responses[given]
    })
  )
  const { port } = server.address as { readonly port: number }
  return { url: `http://127.0.0.1:${port}`, parcels, requests }
})

/** Has no time for every sixth shipment at first, wants every fiftieth later, and takes nothing at the northern depot until it is open. */
export const flaky =
  (depots: { readonly north: boolean }) =>
  ({ depot, order, times }: Asked): Effect.Effect<Answer> =>
    Effect.sync(() => {
      const number = Number(/\d+$/.exec(order)?.[0])
      if (depot === "north" && !depots.north) return "closed"
      if (times === 1 && number % 50 === 1) return "later"
      return times === 1 && number % 6 === 1 ? "busy" : "taken"
    })
