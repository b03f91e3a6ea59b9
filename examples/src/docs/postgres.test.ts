import { assert, it } from "@effect/vitest"
import { Consumer, Producer, Topic } from "@surety/core"
import { SuretyPg } from "@surety/pg"
import * as TestPostgres from "@surety/testing/TestPostgres"
import { Effect, Layer, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { untilSettled } from "../support/untilSettled.ts"

const Names = Topic.make("names", { schema: Schema.String, guarantee: "exactly-once", id: (name) => name })

const Guestbook = Consumer.make(Names, {
  group: "guestbook",
  handler: (name) => Effect.flatMap(SqlClient.SqlClient, (sql) => sql`INSERT INTO guest VALUES (${name})`)
}).pipe(Consumer.orDeadLetter, Consumer.layer)

// One server for the file. A database of its own, with a client, for each layer that asks for one.
it.layer(TestPostgres.layer, { excludeTestServices: true })("the guestbook", (it) => {
  it.effect("holds a name once, however often it is published", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql`CREATE TABLE guest (name text)`
      yield* Producer.publishAll(Names, ["ada", "grace", "ada"])
      yield* Effect.provide(untilSettled(Names, "guestbook"), Guestbook)
      assert.deepStrictEqual(yield* sql`SELECT name FROM guest ORDER BY name`, [{ name: "ada" }, { name: "grace" }])
    }).pipe(Effect.provide(SuretyPg.layer.pipe(Layer.provideMerge(TestPostgres.layerClient))))
  )
})
