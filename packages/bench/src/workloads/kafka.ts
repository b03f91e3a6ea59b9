/** The workloads on Kafka: ten times the messages, of which a second goes by quickly. */
import { Effect } from "effect"
import type { Database, Opened } from "../system.ts"
import { type Bar, type Row, type Size, type Workload, Wrong } from "../workload.ts"
import { consuming } from "./consuming.ts"
import { publishing } from "./publishing.ts"

const more = (size: Size): Size => ({ ...size, messages: size.messages * 10 })

const bar: Bar = { of: "limit", at: "least", value: 0.9 }

const row = (title: string): Row => ({ title, unit: "messages/s", better: "more", bars: [bar] })

const copying = ({ kafkaCopy }: Opened, database: Database, size: Size) => {
  if (kafkaCopy === undefined) return undefined
  let copied: Effect.Effect<{ readonly total: number; readonly distinct: number }, unknown> | undefined
  const begin = Effect.tap(kafkaCopy.begin, (copying) =>
    Effect.sync(() => {
      copied = copying.copied
    })
  )
  const run = consuming({ ...kafkaCopy, begin }, { tables: [] }, database, size, {})!
  const measure = Effect.gen(function* () {
    const values = yield* run.measure
    const { distinct, total } = yield* copied!
    if (total === size.messages && distinct === size.messages) return values
    return yield* new Wrong({ detail: `of ${size.messages} messages ${distinct} were copied, ${total} times` })
  })
  return { settings: run.settings, measure }
}

export const kafkaWorkloads: ReadonlyArray<Workload> = [
  {
    name: "kafka-produce",
    on: "kafka",
    named: true,
    rows: [row("Kafka: produce with acks of all replicas, idempotent")],
    run: ({ kafkaProduce }, _database, size) => publishing(kafkaProduce, more(size))
  },
  {
    name: "kafka-consume",
    on: "kafka",
    named: true,
    rows: [row("Kafka: consume a backlog, a handler that does nothing, until all offsets are committed")],
    run: (opened, database, size) =>
      consuming(opened.kafkaConsume, { tables: [] }, database, more(size), { ordered: true })
  },
  {
    name: "kafka-copy",
    on: "kafka",
    named: true,
    rows: [row("Kafka: read, process and write, in transactions of up to 1,000 messages")],
    run: (opened, database, size) => copying(opened, database, more(size))
  }
]
