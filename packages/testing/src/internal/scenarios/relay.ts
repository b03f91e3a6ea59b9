/** Two systems, each with a store of its own: what one commits a relay sends to the other. */
import * as Channel from "@surety/core/Channel"
import * as Consumer from "@surety/core/Consumer"
import type { EncodedRecord } from "@surety/core/Envelope"
import { Interference } from "@surety/core/Interference"
import * as Producer from "@surety/core/Producer"
import { MaybeSent, NotSent, PublishError } from "@surety/core/PublishError"
import * as Topic from "@surety/core/Topic"
import { type Publish, type TopicDeclaration, Transport } from "@surety/core/Transport"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { faults } from "../../Simulation.ts"
import * as Table from "../../Table.ts"
import { layerElsewhere } from "../simulation/elsewhere.ts"
import { expectThat, increment, inOrder, onceEach, range, type Scenario } from "./scenario.ts"

class Broker extends Channel.make("Broker") {}

const Debit = Schema.Struct({ id: Schema.String, account: Schema.String, step: Schema.Number })
const debits = range(12, (n) => ({ id: `debit-${n}`, account: `account-${n % 3}`, step: Math.floor(n / 3) }))
const ofDebit = {
  schema: Debit,
  id: ({ id }: typeof Debit.Type) => id,
  key: ({ account }: typeof Debit.Type) => account,
  partitions: 2
} as const

const Debits = Topic.make("debits", { ...ofDebit, guarantee: "exactly-once" })
/** The outbox: a topic of the database's own log, whose partitions are the shards of the relay. */
const Waiting = Topic.make("outbox", { ...ofDebit, guarantee: "at-least-once" })
const Credits = Topic.make("credits", { ...ofDebit, guarantee: "exactly-once", channel: Broker })

const debited = Table.make<number>("debited")
const credited = Table.make<number>("credited")
const steps = Table.make<ReadonlyArray<number>>("credited-steps")

const debit = Consumer.make(Debits, {
  group: "ledger",
  concurrency: 2,
  handlerTimeout: "2 seconds",
  handler: Effect.fnUntraced(function* (message) {
    yield* increment(debited, message.id)
    yield* Producer.publish(Waiting, message)
  })
}).pipe(Consumer.orDeadLetter, Consumer.layer)

const credit = Consumer.make(Credits, {
  group: "far-ledger",
  concurrency: 2,
  handlerTimeout: "2 seconds",
  handler: Effect.fnUntraced(function* ({ account, id, step }) {
    yield* increment(credited, id)
    yield* Table.update(steps, account, (before = []) => [...before, step])
  })
}).pipe(Consumer.orDeadLetter, Consumer.layer)

/** Sends to the other system, and has it in the history. */
const send = (publish: Publish, topic: TopicDeclaration, records: ReadonlyArray<EncodedRecord>) =>
  Effect.flatMap(Interference, (around) => {
    const sent = publish(topic, records).pipe(
      Effect.as("stored" as const),
      Effect.mapError((cause) => {
        const reason = cause.reason._tag === "OutcomeUnknown" ? new MaybeSent({ cause }) : new NotSent({ cause })
        return new PublishError({ topic: topic.name, ids: records.map(({ id }) => id), reason })
      })
    )
    return around === undefined ? sent : around.publish(topic.name, records, sent)
  })

const relay = Consumer.makeBatch(Waiting, {
  group: "relay",
  concurrency: 2,
  maxSize: 8,
  prefetch: 16,
  // The other system is waited for, for as long as it takes: nothing ends a relay that hangs.
  handlerTimeout: "Infinity",
  handler: Effect.fnUntraced(function* (messages) {
    const broker = yield* Effect.service(Channel.key(Transport, Broker))
    const { epoch, partition } = messages[0]!
    const records = messages.map(
      ({ headers, id, key, payload, time }): EncodedRecord => ({
        id,
        key,
        headers,
        time,
        payload: new TextEncoder().encode(JSON.stringify(payload))
      })
    )
    yield* Effect.flatMap(broker.fencedPublisher!({ name: "relay", shard: partition, epoch }), (publish) =>
      send(publish, Topic.declaration(Credits), records)
    ).pipe(Effect.retry(Schedule.spaced("300 millis")))
  })
}).pipe(Consumer.orDeadLetter, Consumer.layer)

export const relays: ReadonlyArray<Scenario> = [
  {
    name: "relay",
    about:
      "what a transaction publishes to another system is sent if and only if it commits, and credited once, in order",
    app: Layer.mergeAll(debit, relay, credit).pipe(Layer.provide(Channel.on(Broker)(layerElsewhere))),
    options: {
      clients: 1,
      faults: { ...faults, hang: 0 },
      workload: debits.map((message) => Producer.publish(Debits, message)),
      expect: Effect.gen(function* () {
        yield* onceEach(debited)
        yield* onceEach(credited)
        yield* inOrder(steps)
        const [here, there] = [yield* Table.entries(debited), yield* Table.entries(credited)]
        const missing = Array.from(here.keys()).filter((id) => !there.has(id))
        yield* expectThat(missing.length === 0, () => `debited and not credited: ${missing.join(", ")}`)
        const invented = Array.from(there.keys()).filter((id) => !here.has(id))
        yield* expectThat(invented.length === 0, () => `credited and not debited: ${invented.join(", ")}`)
      })
    }
  }
]
