/**
 * Explain: what an app promises, topic by topic, found by looking at its layers
 * and not by running them. Nothing connects, so no database is needed. The check
 * at the end is a test to have in CI: it fails, for one topic is kept in memory.
 */
import { NodeRuntime } from "@effect/platform-node"
import * as PgClient from "@effect/sql-pg/PgClient"
import { Channel, Consumer, Explain, Surety, Topic } from "@surety/core"
import * as SuretyPg from "@surety/pg/SuretyPg"
import { Console, Effect, Layer, Schema } from "effect"
import { ledger, Receipts } from "./exactly-once-payments.ts"

class Audit extends Channel.make("Audit") {}

const Logins = Topic.make("logins", {
  schema: Schema.Struct({ user: Schema.String }),
  guarantee: "at-least-once",
  channel: Audit
})

const archive = Consumer.make(Logins, { group: "archive", startFrom: "latest", handler: () => Effect.void })

/** The ledger of `exactly-once-payments`, which publishes receipts, and an archive of logins. */
export const app = Layer.mergeAll(
  Layer.mergeAll(Consumer.layer(ledger), Explain.publishing(Receipts)).pipe(
    Layer.provide(SuretyPg.layer),
    Layer.provide(PgClient.layer({ host: "db.example.com" }))
  ),
  Consumer.layer(archive).pipe(Layer.provide(Surety.layerMemory.pipe(Channel.on(Audit))))
)

export const program = Effect.gen(function* () {
  const explanation = yield* Surety.explain(app) // plain data: JSON.stringify(explanation) is all of it
  yield* Console.log(Explain.toText(explanation, { colors: process.stdout.isTTY }))
  yield* Surety.check(app, {
    payments: "exactly-once",
    receipts: "exactly-once",
    "logins@Audit": "at-least-once"
  }).pipe(Effect.catchTag("GuaranteeNotMet", (error) => Console.log(`\ncheck: ${error.message}`)))
})

if (import.meta.main) NodeRuntime.runMain(program)
