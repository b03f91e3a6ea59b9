import type * as PgClient from "@effect/sql-pg/PgClient"
import { type Acks, AtLeastOnce, Consumer, ExactlyOnce, Producer, Topic, type Transport } from "@surety/core"
import type { CompositionError } from "@surety/core/Guarantee"
import type { TransportError } from "@surety/core/TransportError"
import { PgInbox, PgOutbox, PgSchema, type PgSchemaError, PgTransport, SuretyPg } from "@surety/pg"
import { Effect, Layer, Schema } from "effect"
import * as SqlClient from "effect/sql/SqlClient"
import { describe, expect, test } from "tstyche"

const Payments = Topic.make("payments", { schema: Schema.String, guarantee: "exactly-once" })
const Ledger = Consumer.make(Payments, {
  group: "ledger",
  handler: Effect.fn(function* (payment) {
    const sql = yield* SqlClient.SqlClient
    yield* sql`INSERT INTO payment VALUES (${payment})`
  })
}).pipe(Consumer.orDeadLetter, Consumer.layer)

declare const runs: (program: Effect.Effect<never, unknown, never>) => void
declare const Client: Layer.Layer<PgClient.PgClient | SqlClient.SqlClient>

describe("SuretyPg", () => {
  test("one layer and a client are all that an exactly-once consumer needs", () => {
    runs(Layer.launch(Ledger.pipe(Layer.provide(SuretyPg.layer), Layer.provide(Client))))
    expect(SuretyPg.layer).type.toBeAssignableTo<
      Layer.Layer<
        ExactlyOnce | AtLeastOnce | Transport.Transport | Acks.Acks,
        PgSchemaError | CompositionError | TransportError,
        PgClient.PgClient
      >
    >()
  })

  test("without the client it says so", () => {
    const app = Ledger.pipe(Layer.provide(SuretyPg.layer))
    // @ts-expect-error 'PgClient' is not assignable to type 'never'
    runs(Layer.launch(app))
  })

  test("without the inbox there is no exactly-once", () => {
    const parts = Layer.mergeAll(PgTransport.layer, PgOutbox.layer).pipe(
      Layer.provide(PgSchema.layer),
      Layer.provideMerge(Client)
    )
    const guarantee = ExactlyOnce.layer.pipe(Layer.provide(AtLeastOnce.layer))
    const app = Ledger.pipe(Layer.provide(guarantee), Layer.provide(parts))
    // @ts-expect-error 'Inbox' is not assignable to type 'never'
    runs(Layer.launch(app))
  })

  test("the parts, composed by hand", () => {
    const parts = Layer.mergeAll(PgTransport.layer, PgInbox.layer, PgOutbox.layer).pipe(
      Layer.provide(PgSchema.layer),
      Layer.provideMerge(Client)
    )
    const guarantee = ExactlyOnce.layer.pipe(Layer.provide(AtLeastOnce.layer))
    runs(Layer.launch(Ledger.pipe(Layer.provide(guarantee), Layer.provide(parts))))
  })

  test("publishing in a transaction of the app requires no more than publishing", () => {
    const program = Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql.withTransaction(Producer.publish(Payments, "1"))
    })
    expect<Effect.Services<typeof program>>().type.toBe<SqlClient.SqlClient | ExactlyOnce>()
  })
})
