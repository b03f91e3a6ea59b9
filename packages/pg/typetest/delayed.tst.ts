/** The PostgreSQL layers have delayed delivery, and publishing in a transaction of the app asks for nothing more. */
import type * as PgClient from "@effect/sql-pg/PgClient"
import { type AtLeastOnce, type DelayedDelivery, Producer, Topic } from "@surety/core"
import { type PgTransport, SuretyPg } from "@surety/pg"
import { Effect, Layer, Schema } from "effect"
import * as SqlClient from "effect/sql/SqlClient"
import { describe, expect, test } from "tstyche"

const Reminders = Topic.make("reminders", { schema: Schema.String, guarantee: "at-least-once" })

declare const run: <A, E>(program: Effect.Effect<A, E>) => void
declare const Client: Layer.Layer<PgClient.PgClient | SqlClient.SqlClient>

describe("delayed delivery", () => {
  test("is part of the layers", () => {
    run(
      Producer.publish(Reminders, "a", { delay: "1 hour" }).pipe(
        Effect.provide(SuretyPg.layer.pipe(Layer.provide(Client)))
      )
    )
    expect<DelayedDelivery.DelayedDelivery>().type.toBeAssignableTo<Layer.Success<typeof PgTransport.layer>>()
  })

  test("in a transaction of the app requires no more than outside", () => {
    const program = Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql.withTransaction(Producer.publish(Reminders, "1", { deliverAt: new Date() }))
    })
    expect<Effect.Services<typeof program>>().type.toBe<
      SqlClient.SqlClient | AtLeastOnce | DelayedDelivery.DelayedDelivery
    >()
  })
})
