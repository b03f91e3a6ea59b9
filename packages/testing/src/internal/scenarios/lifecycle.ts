/** Nodes that come and go, versions that follow each other, and what is forgotten. */
import * as Consumer from "@surety/core/Consumer"
import { DeadLetters } from "@surety/core/DeadLetters"
import * as Producer from "@surety/core/Producer"
import * as Topic from "@surety/core/Topic"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as SchemaTransformation from "effect/SchemaTransformation"
import * as Table from "../../Table.ts"
import { expectThat, increment, onceEach, range, type Scenario } from "./scenario.ts"

const Job = Schema.Struct({ id: Schema.String, queue: Schema.String })

const Jobs = Topic.make("jobs", {
  schema: Job,
  guarantee: "exactly-once",
  id: ({ id }) => id,
  key: ({ queue }) => queue,
  partitions: 4
})

const ran = Table.make<number>("ran")

const runs = (handlerMillis: number) =>
  Consumer.make(Jobs, {
    group: "workers",
    concurrency: 2,
    batchSize: 2,
    drainTimeout: "500 millis",
    handlerTimeout: "2 seconds",
    handler: ({ id }) => Effect.delay(increment(ran, id), handlerMillis)
  }).pipe(Consumer.orDeadLetter, Consumer.layer)

const workload = range(16, (n) => Producer.publish(Jobs, { id: `job-${n}`, queue: `queue-${n % 6}` }))

const drain: Scenario = {
  name: "drain",
  about: "nodes are stopped and started all the time: nothing is lost, left running or left leased",
  app: runs(100),
  options: {
    faults: { stop: 8, "lose-reply": 2, delay: 4, slow: 3 },
    workload,
    expect: onceEach(ran)
  }
}

const leaseLoss: Scenario = {
  name: "lease-loss",
  about: "nodes that freeze or are cut off for longer than their lease, and go on: what they write then has no effect",
  app: runs(30),
  options: {
    faults: { freeze: 8, disconnect: 4, slow: 4, delay: 4 },
    workload,
    expect: onceEach(ran)
  }
}

const Before = Schema.Struct({ id: Schema.String, euros: Schema.Number })
const After = Schema.Struct({ id: Schema.String, cents: Schema.Number })
const upgrades = SchemaTransformation.transform<typeof After.Type, typeof Before.Type>({
  decode: ({ euros, id }) => ({ id, cents: euros * 100 }),
  encode: ({ cents, id }) => ({ id, euros: cents / 100 })
})

const common = { guarantee: "exactly-once", id: ({ id }: { readonly id: string }) => id, partitions: 2 } as const
const PricesBefore = Topic.make("prices", { ...common, schema: Before })
const PricesAfter = Topic.make("prices", {
  ...common,
  schema: After,
  version: 2,
  older: { 1: Before.pipe(Schema.decodeTo(After, upgrades)) }
})

const prices = Table.make<number>("prices")
const settings = { group: "shop", handlerTimeout: "2 seconds" } as const
const shopBefore = Consumer.make(PricesBefore, {
  ...settings,
  handler: ({ euros, id }) => Table.set(prices, id, euros * 100)
}).pipe(Consumer.orDeadLetter, Consumer.layer)
const shopAfter = Consumer.make(PricesAfter, {
  ...settings,
  handler: ({ cents, id }) => Table.set(prices, id, cents)
}).pipe(Consumer.orDeadLetter, Consumer.layer)

const upgrade: Scenario = {
  name: "schema-upgrade",
  about: "old and new versions run beside each other: each price is right, or a dead letter that can be redriven",
  app: ({ node, start }) => (node === 1 || start > 0 ? shopAfter : shopBefore),
  options: {
    faults: { stop: 6, crash: 3, freeze: 2, "lose-reply": 3, delay: 3 },
    workload: [
      ...range(12, (n) =>
        n % 3 === 2
          ? Producer.publish(PricesAfter, { id: `price-${n}`, cents: n * 100 })
          : Producer.publish(PricesBefore, { id: `price-${n}`, euros: n })
      ),
      Effect.flatMap(DeadLetters, ({ redrive }) => Effect.delay(redrive({ topic: "prices" }), "3 seconds"))
    ],
    expect: Effect.flatMap(Table.entries(prices), (rows) => {
      const wrong = Array.from(rows).filter(([id, cents]) => cents !== Number(id.slice(6)) * 100)
      return expectThat(wrong.length === 0, () => `prices are wrong: ${wrong.join(", ")}`)
    })
  }
}

class Away extends Schema.TaggedError<Away>()("Away", {}) {}

const republished = { id: "again", queue: "queue-1" }

const retention: Scenario = {
  name: "retention",
  about: "log and inbox forget what is over while messages wait for a late retry, or come again",
  app: Consumer.make(Jobs, {
    group: "workers",
    concurrency: 2,
    handlerTimeout: "2 seconds",
    redeliverAfter: "1 second",
    handler: Effect.fnUntraced(function* ({ id }, { attempt }) {
      yield* increment(ran, id)
      if (Number(id.slice(4)) % 3 === 1 && attempt <= 2) return yield* new Away()
    })
  }).pipe(Consumer.retry(Schedule.spaced("40 seconds")), Consumer.orDeadLetter, Consumer.layer),
  options: {
    during: "150 seconds",
    store: { lease: "10 seconds", retention: { log: "5 seconds", inbox: "100 seconds" } },
    workload: range(12, (n) => {
      const publish = Producer.publish(Jobs, n % 4 === 3 ? republished : { id: `job-${n}`, queue: `queue-${n % 6}` })
      return Effect.delay(publish, n % 4 === 3 ? 1_000 : 15_000)
    }),
    expect: onceEach(ran)
  }
}

export const lifecycle: ReadonlyArray<Scenario> = [drain, leaseLoss, upgrade, retention]
