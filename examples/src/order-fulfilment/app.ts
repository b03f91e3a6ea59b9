/** What a worker runs, and what that promises. */
import * as PgClient from "@effect/sql-pg/PgClient"
import { Consumer, Surety } from "@surety/core"
import * as SuretyPg from "@surety/pg/SuretyPg"
import { Effect, Layer } from "effect"
import { FetchHttpClient } from "effect/http"
import { Carrier, Dispatch } from "./carrier.ts"
import { Stock } from "./stock.ts"
import { Views } from "./views.ts"

export const Consumers = Layer.mergeAll(Consumer.layer(Stock), Consumer.layer(Dispatch), Consumer.layer(Views))

/** What holds from end to end, topic by topic. Fails where that is less than a topic declares; connects to nothing. */
export const promises = Surety.check(
  Consumers.pipe(
    Layer.provide([SuretyPg.layer, Carrier.layer("http://carrier")]),
    Layer.provide([PgClient.layer({ host: "database" }), FetchHttpClient.layer])
  )
).pipe(Effect.map(({ topics }) => topics.map(({ derived, name }) => `${name} ${derived}`).join(", ")))
