/**
 * A shop fulfils orders: three topics with three guarantees on one PostgreSQL,
 * and two worker processes, of which one is stopped and one is killed in the
 * middle. Stock runs out, and a depot is closed: what cannot be served goes to
 * the dead letters, and is redriven once it can. Ends by itself, with 0 when
 * every order was served once. What that rests on, it explains by itself.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import * as PgClient from "@effect/sql-pg/PgClient"
import { DeadLetters } from "@surety/core"
import * as SuretyPg from "@surety/pg/SuretyPg"
import * as TestPostgres from "@surety/testing/TestPostgres"
import { Console, Effect, Layer, type Redacted, Schema, Stream, SubscriptionRef } from "effect"
import * as Workers from "../support/workers.ts"
import { promises } from "./app.ts"
import { discrepancies } from "./audit.ts"
import * as CarrierApi from "./carrierApi.ts"
import * as Input from "./input.ts"
import { publish, settled } from "./shop.ts"
import * as Tables from "./tables.ts"

class NotBalanced extends Schema.TaggedError<NotBalanced>()("NotBalanced", {
  discrepancies: Schema.Array(Schema.String)
}) {
  override get message(): string {
    return `this does not add up:\n${this.discrepancies.join("\n")}`
  }
}

/** Workers are stopped and killed meanwhile. */
const fulfil = Effect.fn("Shop.fulfil")(function* (url: Redacted.Redacted) {
  yield* Tables.create
  yield* Tables.deliver(Input.firstDelivery)
  const depots = { north: false }
  const carrier = yield* CarrierApi.serve(CarrierApi.flaky(depots))
  const working = SubscriptionRef.changes(carrier.requests).pipe(Stream.drop(1), Stream.runHead)
  const start = Workers.start(new URL("./worker.ts", import.meta.url), {
    DATABASE_URL: url,
    CARRIER_URL: carrier.url,
    LEASE: "2 seconds"
  })

  const [first, second] = yield* Effect.all([start, start])
  yield* publish(0, 3)
  yield* working
  yield* first.end("SIGTERM")
  yield* start
  yield* publish(1, 3)
  yield* working
  yield* second.end("SIGKILL")
  yield* start
  yield* publish(2, 3)
  yield* settled

  depots.north = true
  yield* Tables.deliver(Input.secondDelivery)
  const redriven = yield* DeadLetters.DeadLetters.use((letters) => letters.redrive())
  yield* settled
  return {
    redriven,
    parcels: carrier.parcels,
    requests: yield* SubscriptionRef.get(carrier.requests),
    counted: yield* Tables.countedViews,
    left: yield* DeadLetters.DeadLetters.use((letters) => Stream.runCount(letters.list()))
  }
})

const program = Effect.gen(function* () {
  const { url } = yield* Effect.flatMap(TestPostgres.TestPostgres, ({ createDatabase }) => createDatabase())
  yield* Effect.gen(function* () {
    const { counted, left, parcels, redriven, requests } = yield* fulfil(url)
    const found = yield* discrepancies(parcels)
    yield* Console.log(
      [
        `promises     ${yield* promises}`,
        `orders       ${Input.orders.length}, each published twice; a worker was stopped, and one killed`,
        `shipments    ${parcels.size}, for which the carrier was asked ${requests} times`,
        `page views   ${counted} counted of ${Input.views.length}`,
        `dead letters ${redriven} redriven, ${left} left`
      ].join("\n")
    )
    yield* Console.table(yield* Tables.balances)
    if (found.length > 0 || left > 0) return yield* new NotBalanced({ discrepancies: found })
    yield* Console.log("Every order was reserved once and shipped once.")
  }).pipe(Effect.provide(SuretyPg.layer.pipe(Layer.provideMerge(PgClient.layer({ url })))))
})

program.pipe(Effect.scoped, Effect.provide([TestPostgres.layer, NodeServices.layer]), NodeRuntime.runMain)
