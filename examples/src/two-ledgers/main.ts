/**
 * Money moves from one bank to another, through Kafka: database, outbox, Kafka,
 * inbox, database. The worker processes in between are killed meanwhile. Ends by
 * itself, with 0 when every transfer was credited once and the ledgers balance.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Producer } from "@surety/core"
import { KafkaTransport } from "@surety/kafka"
import * as SuretyPg from "@surety/pg/SuretyPg"
import * as TestKafka from "@surety/testing/TestKafka"
import * as TestPostgres from "@surety/testing/TestPostgres"
import { Console, Effect, Layer, Schema } from "effect"
import * as Kafka from "../support/kafka.ts"
import * as Workers from "../support/workers.ts"
import * as Bank from "./bank.ts"
import { transfersOf } from "./transfers.ts"

const transfers = 200
/** Each tenth is thought better of, after it was published. */
const expected = transfers * 0.9
const kills = 3

class NotBalanced extends Schema.TaggedError<NotBalanced>()("NotBalanced", { found: Schema.String }) {
  override get message(): string {
    return `the ledgers do not balance: ${this.found}`
  }
}

const program = Effect.gen(function* () {
  const { bootstrapServers } = yield* TestKafka.TestKafka
  const run = crypto.randomUUID().slice(0, 8)
  const Transfers = transfersOf(run)
  const [first, second] = yield* Effect.all([Bank.open, Bank.open])
  const worker = Workers.start(new URL("./worker.ts", import.meta.url), {
    KAFKA_BOOTSTRAP_SERVERS: bootstrapServers,
    FIRST_BANK: first.url,
    SECOND_BANK: second.url,
    RUN: run
  })
  const workers = [yield* worker, yield* worker]

  /** The debit and the message: both, or neither. */
  const debit = (index: number) => {
    const transfer = { id: `transfer-${index}`, from: index % 10, to: (index * 7) % 10, amount: 1 + (index % 5) }
    return Effect.gen(function* () {
      yield* first.sql`UPDATE account SET balance = balance - ${transfer.amount} WHERE id = ${transfer.from}`
      yield* Producer.publish(Transfers, transfer)
      if (index % 10 === 9) yield* Effect.fail("thought better of it" as const)
    }).pipe(
      first.sql.withTransaction,
      Effect.catchIf(
        (error) => error === "thought better of it",
        () => Effect.void
      )
    )
  }
  // This process publishes; the workers send.
  const Live = SuretyPg.layerAcross({ send: false }).pipe(
    Layer.provide(KafkaTransport.layer({ acks: "all" })),
    Layer.provide(Kafka.layerClient(bootstrapServers)),
    Layer.provide(Layer.succeedContext(first.services))
  )
  const debits = Effect.forEach(Array.from({ length: transfers }).keys(), debit, { discard: true }).pipe(
    Effect.provide(Live)
  )
  const killing = Effect.forEach(Array.from({ length: kills }).keys(), (kill) =>
    Effect.gen(function* () {
      yield* second.untilCredited((expected * (kill + 1)) / (kills + 1))
      yield* workers.shift()!.end("SIGKILL")
      workers.push(yield* worker)
    })
  )
  yield* Effect.all([debits, killing], { concurrency: 2 })
  const there = yield* second.untilCredited(expected)
  const here = yield* first.look
  const total = here.balance + there.balance
  yield* Console.log(
    [
      `transfers    ${transfers}, of which ${transfers - expected} were rolled back`,
      `workers      2, of which ${kills} were killed in the middle and replaced`,
      `credited     ${there.transfers}, ${there.credits - there.transfers} of them twice`,
      `first bank   ${here.balance}`,
      `second bank  ${there.balance}`,
      `together     ${total}`
    ].join("\n")
  )
  if (there.credits !== expected || total !== 2 * Bank.accounts * Bank.initial) {
    return yield* new NotBalanced({ found: JSON.stringify({ expected, total, ...there }) })
  }
  yield* Console.log("Every transfer was credited once, and the ledgers balance.")
})

program.pipe(
  Effect.scoped,
  Effect.provide([TestPostgres.layer, Kafka.layerCluster, NodeServices.layer]),
  NodeRuntime.runMain
)
