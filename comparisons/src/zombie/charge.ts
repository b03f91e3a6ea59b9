/** What the workers of both systems do: wait to be told, take a message, and charge it in a transaction. */
import { once } from "node:events"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as TestProcess from "@surety/testing/TestProcess"
import { Config, Effect, Schema } from "effect"
import * as SqlClient from "effect/sql/SqlClient"

export const Charge = Schema.Struct({ id: Schema.String })

/** How long a message is a worker's that gives no sign of life. */
export const leaseMillis = 1000

/** The name of this worker. */
export const name = process.argv[2]!

const say = (line: string) => Effect.sync(() => process.stdout.write(`${line}\n`))
const told = Effect.promise(() => once(process.stdin, "data"))

/** The client of this worker. */
export const layerClient = PgClient.layerConfig({
  url: Config.Redacted("DATABASE_URL"),
  applicationName: Config.succeed(name)
})

/** Says that it is ready, and waits until it is told to take a message. */
export const ready = Effect.all([TestProcess.endWithParent, say("ready"), told])

/** The handler: the first worker waits inside, where it is frozen. */
export const handle = Effect.fnUntraced(function* ({ id }: typeof Charge.Type) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`INSERT INTO charge (id, worker) VALUES (${id}, ${name})`
  if (name !== "zombie") return
  yield* say("inside")
  yield* told
  yield* say("goes on")
})
