import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Channel, Consumer, Producer, Topic, Transport } from "@surety/core"
import { SuretyPg } from "@surety/pg"
import { Config, Console, Effect, Layer, Schedule, Schema } from "effect"
import { SqlClient } from "effect/sql"

// The other system, by a name of its own: its topics require its guarantees.
class Broker extends Channel.make("Broker") {}

const Transfers = Topic.make("transfers", {
  schema: Schema.Struct({ id: Schema.String, amount: Schema.Int }),
  guarantee: "exactly-once",
  id: ({ id }) => id,
  key: () => "bob",
  channel: Broker
})

/** The debit and the message: both, or neither. */
const debit = (id: string, amount: number) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.gen(function* () {
      const { state } = yield* Producer.publish(Transfers, { id, amount })
      yield* Console.log(`${id}: ${state}`)
      const debited = yield* sql`
        UPDATE account SET balance = balance - ${amount} WHERE name = 'ada' AND balance >= ${amount} RETURNING name`
      if (debited.length === 0) yield* Effect.fail("too much" as const)
    }).pipe(sql.withTransaction)
  )

const Credit = Consumer.make(Transfers, {
  group: "credit",
  handler: Effect.fn("Credit")(function* ({ amount, id }) {
    const sql = yield* SqlClient.SqlClient
    yield* sql`UPDATE account SET balance = balance + ${amount}, last = ${id} WHERE name = 'bob'`
  })
}).pipe(Consumer.orDeadLetter, Consumer.layer)

// One in memory stands in for a broker: KafkaTransport.layer({ acks: "all" }) goes in the same place.
const BrokerLive = SuretyPg.layerAcross().pipe(Layer.provide(Transport.layerMemory), Channel.on(Broker))

const program = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`CREATE TABLE account (name text PRIMARY KEY, balance integer NOT NULL, last text)`
  yield* sql`INSERT INTO account VALUES ('ada', 100, NULL), ('bob', 0, NULL)`
  yield* debit("transfer-1", 30)
  yield* Effect.catch(debit("transfer-2", 500), (error) => Console.log(`transfer-2: rolled back, ${error}`))
  // What a relay that was interrupted may do: the same message again.
  yield* Producer.publish(Transfers, { id: "transfer-1", amount: 30 })
  yield* debit("transfer-3", 20)
  const last = sql<{ last: string | null }>`SELECT last FROM account WHERE name = 'bob'`
  yield* Effect.repeat(last, {
    until: ([bob]) => bob?.last === "transfer-3",
    schedule: Schedule.spaced("20 millis")
  }).pipe(Effect.provide(Credit))
  yield* Console.log(yield* sql`SELECT name, balance FROM account ORDER BY name`)
})

program.pipe(
  Effect.provide(
    BrokerLive.pipe(
      Layer.provideMerge(SuretyPg.layer),
      Layer.provideMerge(PgClient.layerConfig({ url: Config.Redacted("DATABASE_URL") }))
    )
  ),
  NodeRuntime.runMain
)
