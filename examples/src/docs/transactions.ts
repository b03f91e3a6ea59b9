import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Consumer, Producer, Topic } from "@surety/core"
import { SuretyPg } from "@surety/pg"
import { Config, Console, Effect, Layer, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { untilSettled } from "../support/untilSettled.ts"

const Mails = Topic.make("mails", { schema: Schema.String, guarantee: "at-least-once" })

const Mailer = Consumer.make(Mails, { group: "mailer", handler: (to) => Console.log(`mail to ${to}`) }).pipe(
  Consumer.layer
)

class NameTaken extends Schema.TaggedError<NameTaken>()("NameTaken", {}) {}

/** The customer and the mail: both, or neither. */
const register = Effect.fn("register")(
  function* (name: string) {
    const sql = yield* SqlClient.SqlClient
    const { state } = yield* Producer.publish(Mails, name)
    yield* Console.log(`${name}: ${state}`)
    const added = yield* sql`INSERT INTO customer VALUES (${name}) ON CONFLICT DO NOTHING RETURNING name`
    if (added.length === 0) return yield* new NameTaken()
  },
  (effect) => Effect.flatMap(SqlClient.SqlClient, (sql) => sql.withTransaction(effect))
)

const program = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`CREATE TABLE customer (name text PRIMARY KEY)`
  yield* register("ada")
  yield* Effect.catchTag(register("ada"), "NameTaken", () => Console.log("ada: rolled back"))
  yield* untilSettled(Mails, "mailer").pipe(Effect.provide(Mailer))
})

program.pipe(
  Effect.provide(
    SuretyPg.layer.pipe(Layer.provideMerge(PgClient.layerConfig({ url: Config.Redacted("DATABASE_URL") })))
  ),
  NodeRuntime.runMain
)
