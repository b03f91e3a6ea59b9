/** Order, locks, batches and time. */
import * as Consumer from "@surety/core/Consumer"
import * as Producer from "@surety/core/Producer"
import * as Topic from "@surety/core/Topic"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { faults } from "../../Simulation.ts"
import * as Table from "../../Table.ts"
import { expectThat, increment, inOrder, onceEach, range, type Scenario } from "./scenario.ts"

class Busy extends Schema.TaggedError<Busy>()("Busy", {}) {}

const Step = Schema.Struct({ order: Schema.String, step: Schema.Number })

const Steps = Topic.make("steps", {
  schema: Step,
  guarantee: "exactly-once",
  id: ({ order, step }) => `${order}/${step}`,
  key: ({ order }) => order,
  partitions: 2
})

const done = Table.make<ReadonlyArray<number>>("done")

const orderPerKey: Scenario = {
  name: "order-per-key",
  about: "the steps of an order are done in their order, whatever is retried, crashes or moves",
  app: Consumer.make(Steps, {
    group: "work",
    concurrency: 3,
    handlerTimeout: "2 seconds",
    redeliverAfter: "1 second",
    handler: Effect.fnUntraced(function* ({ order, step }, { attempt }) {
      yield* Table.update(done, order, (steps = []) => [...steps, step])
      if (step % 3 === 1 && attempt === 1) return yield* new Busy()
    })
  }).pipe(Consumer.retry(Schedule.spaced("1500 millis")), Consumer.orDeadLetter, Consumer.layer),
  options: {
    clients: 1,
    workload: range(15, (n) => Producer.publish(Steps, { order: `order-${n % 3}`, step: Math.floor(n / 3) })),
    expect: inOrder(done)
  }
}

const Transfer = Schema.Struct({ id: Schema.String, from: Schema.String, to: Schema.String })

const Transfers = Topic.make("transfers", {
  schema: Transfer,
  guarantee: "exactly-once",
  id: ({ id }) => id,
  partitions: 4
})

const accounts = Table.make<number>("accounts")

const transfers: Scenario = {
  name: "transfers",
  about: "transactions that lock rows against each other, and deadlock: what is taken here is there",
  app: Consumer.make(Transfers, {
    group: "bank",
    concurrency: 3,
    batchSize: 1,
    handlerTimeout: "2 seconds",
    handler: Effect.fnUntraced(function* ({ from, to }) {
      yield* Table.update(accounts, from, (balance = 0) => balance - 10)
      yield* Effect.sleep("5 millis")
      yield* Table.update(accounts, to, (balance = 0) => balance + 10)
    })
  }).pipe(Consumer.orDeadLetter, Consumer.layer),
  options: {
    workload: range(12, (n) =>
      Producer.publish(Transfers, {
        id: `transfer-${n}`,
        from: `account-${n % 3}`,
        to: `account-${(n + 1 + (n % 2)) % 3}`
      })
    ),
    expect: Effect.flatMap(Table.entries(accounts), (rows) => {
      const sum = Array.from(rows.values()).reduce((total, balance) => total + balance, 0)
      return expectThat(sum === 0, () => `the balances add up to ${sum}`)
    })
  }
}

const Lines = Topic.make("lines", {
  schema: Schema.Struct({ id: Schema.String, book: Schema.String }),
  guarantee: "exactly-once",
  id: ({ id }) => id,
  key: ({ book }) => book,
  partitions: 2
})

const written = Table.make<number>("written")

const batches: Scenario = {
  name: "batches",
  about: "a batch is one transaction, and is halved around a message that fails",
  app: Consumer.makeBatch(Lines, {
    group: "press",
    concurrency: 2,
    maxSize: 6,
    maxWait: "20 millis",
    handlerTimeout: "2 seconds",
    handler: Effect.fnUntraced(function* (messages) {
      for (const { id } of messages) yield* increment(written, id)
      if (messages.some(({ id }) => id === "line-7")) return yield* new Busy()
    })
  }).pipe(
    Consumer.retry(Schedule.spaced("50 millis").pipe(Schedule.upTo({ times: 1 }))),
    Consumer.orDeadLetter,
    Consumer.layer
  ),
  options: {
    workload: range(6, (n) =>
      Producer.publishAll(
        Lines,
        range(3, (m) => ({ id: `line-${n * 3 + m}`, book: `book-${(n + m) % 4}` }))
      )
    ),
    expect: onceEach(written)
  }
}

const Reminders = Topic.make("reminders", {
  schema: Schema.Struct({ id: Schema.String, after: Schema.Number }),
  guarantee: "exactly-once",
  id: ({ id }) => id,
  partitions: 2
})

const reminded = Table.make<number>("reminded")
const early = Table.make<number>("early")

const delay: Scenario = {
  name: "delay",
  about: "a delayed message is not read before its time, and is handled once",
  app: Consumer.make(Reminders, {
    group: "reminder",
    concurrency: 2,
    handlerTimeout: "2 seconds",
    handler: Effect.fnUntraced(function* ({ after, id }, { time }) {
      yield* increment(reminded, id)
      if ((yield* Clock.currentTimeMillis) < time + after) yield* increment(early, id)
    })
  }).pipe(Consumer.orDeadLetter, Consumer.layer),
  options: {
    faults: { ...faults, skew: 0 },
    workload: range(12, (n) => {
      const after = [0, 300, 2_000, 6_000][n % 4]!
      return Producer.publish(Reminders, { id: `reminder-${n}`, after }, { delay: after })
    }),
    expect: Effect.andThen(
      onceEach(reminded),
      Effect.flatMap(Table.entries(early), (rows) =>
        expectThat(rows.size === 0, () => `handled too early: ${Array.from(rows.keys()).join(", ")}`)
      )
    )
  }
}

export const orders: ReadonlyArray<Scenario> = [orderPerKey, transfers, batches, delay]
