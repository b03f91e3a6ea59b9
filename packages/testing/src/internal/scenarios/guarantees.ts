/** What each guarantee says. */
import * as Consumer from "@surety/core/Consumer"
import * as MemoryStore from "@surety/core/MemoryStore"
import * as Producer from "@surety/core/Producer"
import * as Topic from "@surety/core/Topic"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Table from "../../Table.ts"
import { expectThat, increment, onceEach, range, type Scenario } from "./scenario.ts"

const Payment = Schema.Struct({ id: Schema.String, account: Schema.String })
const payments = range(20, (n) => ({ id: `payment-${n}`, account: `account-${n % 5}` }))

const Payments = Topic.make("payments", {
  schema: Payment,
  guarantee: "exactly-once",
  id: ({ id }) => id,
  key: ({ account }) => account,
  partitions: 3
})

const ledger = Table.make<number>("ledger")

const booking = {
  group: "ledger",
  concurrency: 2,
  handlerTimeout: "2 seconds",
  handler: ({ id }: typeof Payment.Type) => increment(ledger, id)
} as const

const exactlyOnce: Scenario = {
  name: "exactly-once",
  about: "20 payments, 3 workers: each is booked once, in the order of its account",
  app: Consumer.make(Payments, booking).pipe(Consumer.orDeadLetter, Consumer.layer),
  options: {
    workload: payments.map((payment) => Producer.publish(Payments, payment)),
    expect: onceEach(ledger)
  }
}

const duplicates: Scenario = {
  name: "duplicates",
  about: "each payment is published by every client, and booked once",
  app: exactlyOnce.app,
  options: {
    workload: payments
      .slice(0, 8)
      .flatMap((payment) => [Producer.publish(Payments, payment), Producer.publish(Payments, payment)]),
    expect: onceEach(ledger)
  }
}

const receipts = Table.make<number>("receipts")

const Receipts = Topic.make("receipts", {
  schema: Schema.Struct({ payment: Schema.String }),
  guarantee: "exactly-once",
  id: ({ payment }) => payment,
  partitions: 2
})

const mailer = Consumer.make(Receipts, {
  group: "mailer",
  handlerTimeout: "2 seconds",
  handler: ({ payment }) => increment(receipts, payment)
}).pipe(Consumer.orDeadLetter, Consumer.layer)

const outgoing: Scenario = {
  name: "outgoing",
  about: "what a handler publishes leaves if and only if its transaction commits",
  app: Layer.mergeAll(
    Consumer.make(Payments, {
      ...booking,
      handler: Effect.fnUntraced(function* ({ id }) {
        yield* increment(ledger, id)
        yield* Producer.publish(Receipts, { payment: id })
      })
    }).pipe(Consumer.orDeadLetter, Consumer.layer),
    mailer
  ),
  options: {
    workload: payments.slice(0, 12).map((payment) => Producer.publish(Payments, payment)),
    expect: Effect.all([onceEach(ledger), onceEach(receipts)])
  }
}

const Mails = Topic.make("mails", {
  schema: Payment,
  guarantee: "at-least-once",
  id: ({ id }) => id,
  key: ({ account }) => account,
  partitions: 3
})

const handledBy = (group: string) =>
  Consumer.make(Mails, {
    group,
    concurrency: 2,
    handlerTimeout: "2 seconds",
    handler: () => Effect.sleep("20 millis")
  }).pipe(Consumer.orDeadLetter, Consumer.layer)

const atLeastOnce: Scenario = {
  name: "at-least-once",
  about: "every group handles every acknowledged message, in the order of its key",
  app: Layer.mergeAll(handledBy("mailer"), handledBy("archive")),
  options: { workload: payments.slice(0, 12).map((payment) => Producer.publish(Mails, payment)) }
}

const Clicks = Topic.make("clicks", {
  schema: Payment,
  guarantee: "at-most-once",
  id: ({ id }) => id,
  key: ({ account }) => account,
  partitions: 3
})

const atMostOnce: Scenario = {
  name: "at-most-once",
  about: "no handler starts twice for a message",
  app: Consumer.make(Clicks, {
    group: "counter",
    concurrency: 2,
    handlerTimeout: "2 seconds",
    handler: () => Effect.sleep("20 millis")
  }).pipe(Consumer.orDeadLetter, Consumer.layer),
  options: { workload: payments.map((payment) => Producer.publish(Clicks, payment)) }
}

class TooMuch extends Schema.TaggedError<TooMuch>()("TooMuch", {}) {}

const reserved = Table.make<number>("reserved")
const reservations = Table.make<number>("reservations")

const Reservations = Topic.make("reservations", {
  schema: Schema.Struct({ payment: Schema.String }),
  guarantee: "exactly-once",
  id: ({ payment }) => payment,
  partitions: 2
})

const isTooMuch = (id: string) => Number(id.slice(8)) % 3 === 1

const savepoints: Scenario = {
  name: "savepoints",
  about: "an inner transaction that rolls back takes its rows and its messages with it, and nothing else",
  app: Layer.mergeAll(
    Consumer.make(Payments, {
      ...booking,
      handler: Effect.fnUntraced(function* ({ id }) {
        yield* increment(ledger, id)
        yield* Effect.ignore(
          MemoryStore.savepoint(
            Effect.gen(function* () {
              yield* increment(reserved, id)
              yield* Producer.publish(Reservations, { payment: id })
              if (isTooMuch(id)) return yield* new TooMuch()
            })
          )
        )
        yield* Producer.publish(Receipts, { payment: id })
      })
    }).pipe(Consumer.orDeadLetter, Consumer.layer),
    Consumer.make(Reservations, {
      group: "desk",
      handlerTimeout: "2 seconds",
      handler: ({ payment }) => increment(reservations, payment)
    }).pipe(Consumer.orDeadLetter, Consumer.layer),
    mailer
  ),
  options: {
    workload: payments.slice(0, 12).map((payment) => Producer.publish(Payments, payment)),
    expect: Effect.gen(function* () {
      for (const table of [ledger, receipts, reserved, reservations]) yield* onceEach(table)
      const [paid, mailed, inside, handled] = [
        yield* Table.entries(ledger),
        yield* Table.entries(receipts),
        yield* Table.entries(reserved),
        yield* Table.entries(reservations)
      ]
      for (const id of paid.keys()) {
        yield* expectThat(mailed.has(id), () => `${id} has no receipt`)
        const taken = !isTooMuch(id)
        yield* expectThat(inside.has(id) === taken, () => `${id} is ${taken ? "not " : ""}reserved`)
        yield* expectThat(handled.has(id) === taken, () => `${id} has ${taken ? "no" : "a"} reservation`)
      }
    })
  }
}

export const guarantees: ReadonlyArray<Scenario> = [
  exactlyOnce,
  duplicates,
  outgoing,
  savepoints,
  atLeastOnce,
  atMostOnce
]
