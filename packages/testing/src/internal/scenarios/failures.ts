/** What becomes of messages whose handlers fail. */
import * as Consumer from "@surety/core/Consumer"
import { DeadLetters } from "@surety/core/DeadLetters"
import * as Producer from "@surety/core/Producer"
import * as Topic from "@surety/core/Topic"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Table from "../../Table.ts"
import { increment, onceEach, range, type Scenario } from "./scenario.ts"

class Busy extends Schema.TaggedError<Busy>()("Busy", {}) {}
class Away extends Schema.TaggedError<Away>()("Away", {}) {}
class Refused extends Schema.TaggedError<Refused>()("Refused", {}) {}

const Order = Schema.Struct({ id: Schema.String, customer: Schema.String })
const orders = range(12, (n) => ({ id: `order-${n}`, customer: `customer-${n % 3}` }))

const Orders = Topic.make("orders", {
  schema: Order,
  guarantee: "exactly-once",
  id: ({ id }) => id,
  key: ({ customer }) => customer,
  partitions: 2
})

const shipped = Table.make<number>("shipped")

/** Fails at first, for long, or for ever, as its number says. */
const ship = Effect.fnUntraced(function* ({ id }: typeof Order.Type, { attempt }: { readonly attempt: number }) {
  yield* increment(shipped, id)
  switch (Number(id.slice(6)) % 5) {
    case 1:
      if (attempt <= 2) return yield* new Busy()
      break
    case 2:
      if (attempt === 1) return yield* new Away()
      break
    case 3:
      return yield* new Refused()
  }
})

const retries: Scenario = {
  name: "retries",
  about: "short retries and long ones, kept aside in the store, and dead letters: in order within a key",
  app: Consumer.make(Orders, {
    group: "shipping",
    concurrency: 2,
    handlerTimeout: "2 seconds",
    redeliverAfter: "1 second",
    handler: ship
  }).pipe(
    Consumer.retry("Busy", Schedule.spaced("100 millis").pipe(Schedule.upTo({ times: 3 }))),
    Consumer.retry("Away", Schedule.spaced("4 seconds").pipe(Schedule.upTo({ times: 2 }))),
    Consumer.deadLetter("Refused"),
    Consumer.orDeadLetter,
    Consumer.layer
  ),
  options: {
    workload: orders.map((order) => Producer.publish(Orders, order)),
    expect: onceEach(shipped)
  }
}

const Letters = Topic.make("letters", {
  schema: Order,
  guarantee: "at-least-once",
  id: ({ id }) => id,
  key: ({ customer }) => customer,
  partitions: 2
})

const deadLetters: Scenario = {
  name: "dead-letters",
  about: "at-least-once: what outlives its retries is dead-lettered whole, and blocks nothing",
  app: Consumer.make(Letters, {
    group: "post",
    concurrency: 2,
    handlerTimeout: "2 seconds",
    redeliverAfter: "1 second",
    handler: ({ id }, { attempt }) => {
      const number = Number(id.slice(6)) % 4
      return number === 1 || (number === 2 && attempt === 1) ? new Away() : Effect.void
    }
  }).pipe(
    Consumer.retry(Schedule.spaced("2 seconds").pipe(Schedule.upTo({ times: 1 }))),
    Consumer.orDeadLetter,
    Consumer.layer
  ),
  options: { workload: orders.map((order) => Producer.publish(Letters, order)) }
}

const fixed = Table.make<boolean>("fixed")

const redriveAll = Effect.flatMap(DeadLetters, ({ redrive }) =>
  Effect.delay(redrive({ topic: Orders.name }), "2 seconds")
)

const redrive: Scenario = {
  name: "redrive",
  about: "dead letters that are handed to their group again are handled once, under their ids",
  app: Consumer.make(Orders, {
    group: "shipping",
    concurrency: 2,
    handlerTimeout: "2 seconds",
    handler: Effect.fnUntraced(function* ({ id }) {
      yield* increment(shipped, id)
      if (Number(id.slice(6)) % 2 === 0 && (yield* Table.get(fixed, "bug")) !== true) return yield* new Refused()
    })
  }).pipe(Consumer.deadLetter("Refused"), Consumer.layer),
  options: {
    workload: [
      ...orders.slice(0, 8).map((order) => Producer.publish(Orders, order)),
      redriveAll,
      redriveAll,
      Table.set(fixed, "bug", true),
      redriveAll,
      redriveAll
    ],
    expect: onceEach(shipped)
  }
}

export const failures: ReadonlyArray<Scenario> = [retries, deadLetters, redrive]
