import type * as PgClient from "@effect/sql-pg/PgClient"
import { type Acks, AtLeastOnce, Channel, Consumer, ExactlyOnce, Producer, Topic, type Transport } from "@surety/core"
import { PgInbox, PgOutbox, PgSchema, SuretyPg } from "@surety/pg"
import { Effect, Layer, Schema } from "effect"
import * as SqlClient from "effect/sql/SqlClient"
import { describe, expect, test } from "tstyche"

class Broker extends Channel.make("Broker") {}

const Transfers = Topic.make("transfers", { schema: Schema.String, guarantee: "exactly-once", channel: Broker })
const Credit = Consumer.make(Transfers, {
  group: "credit",
  handler: Effect.fn(function* (id) {
    const sql = yield* SqlClient.SqlClient
    yield* sql`INSERT INTO credited VALUES (${id})`
  })
}).pipe(Consumer.orDeadLetter, Consumer.layer)

declare const runs: (program: Effect.Effect<unknown, unknown, never>) => void
declare const Client: Layer.Layer<PgClient.PgClient | SqlClient.SqlClient>
/** A broker whose acknowledgements can be waited for, and one that is told not to. */
declare const Acknowledging: Layer.Layer<Transport.Transport | Acks.Acks>
declare const Careless: Layer.Layer<Transport.Transport>

describe("another system", () => {
  test("behind an outbox, and in front of the inbox, on a channel", () => {
    const live = SuretyPg.layerAcross().pipe(
      Layer.provide(Acknowledging),
      Channel.on(Broker),
      Layer.provideMerge(SuretyPg.layer),
      Layer.provideMerge(Client)
    )
    runs(Layer.launch(Layer.provide(Credit, live)))
    runs(Producer.publish(Transfers, "a").pipe(Effect.provide(live)))
  })

  test("is not reached by the guarantees of the database alone", () => {
    const app = Credit.pipe(Layer.provide(SuretyPg.layer), Layer.provide(Client))
    // @ts-expect-error Type 'On<ExactlyOnce, Broker>' is not assignable to type 'never'.
    runs(Layer.launch(app))
  })

  test("has to acknowledge what a relay sends to it", () => {
    const live = PgOutbox.layerRelay().pipe(
      Layer.provide(Careless),
      Layer.provide(PgSchema.layer),
      Layer.provide(Client)
    )
    // @ts-expect-error Type 'Acks' is not assignable to type 'never'.
    runs(Layer.launch(live))
  })

  test("needs the schema in which its outbox is", () => {
    const live = PgOutbox.layerRelay().pipe(Layer.provide(Acknowledging))
    // @ts-expect-error Type 'PgSchema' is not assignable to type 'never'.
    runs(Layer.launch(live))
  })

  test("in front of the database: the parts, composed by hand", () => {
    const parts = Layer.mergeAll(PgInbox.layer, PgOutbox.layer).pipe(Layer.provide(SuretyPg.layer))
    const guarantee = ExactlyOnce.layer.pipe(
      Layer.provide(AtLeastOnce.layer),
      Layer.provide(Layer.merge(parts, Acknowledging))
    )
    expect(guarantee).type.toBeAssignableTo<Layer.Layer<ExactlyOnce, unknown, PgClient.PgClient>>()
  })
})
