/** Records keep what they are given: any text, any bytes, up to the limit. */
import { assert } from "@effect/vitest"
import { recordBytes } from "@surety/core/Backend"
import * as Consumer from "@surety/core/Consumer"
import type { EncodedRecord, Envelope } from "@surety/core/Envelope"
import * as Producer from "@surety/core/Producer"
import * as Topic from "@surety/core/Topic"
import * as Transport from "@surety/core/Transport"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { Harness } from "./harness.ts"
import { eventsOf, message, type TestNode, uniqueName } from "./model.ts"
import { all, forEach, type Scenario } from "./scenario.ts"

const texts: Readonly<Record<string, string>> = {
  NUL: "a\u0000b",
  quotes: `it's "quoted" \`and\` $1 :name ?`,
  backslashes: "C:\\new\\table\\x00",
  emoji: "👩‍👩‍👧‍👦 ünïcödé 漢字 \u{10ffff}",
  "line breaks": "a\r\nb\u2028c\td",
  SQL: "'); DROP TABLE messages; --",
  spaces: "  surrounded  ",
  "right to left": "\u202eabc\u0645\u0631\u062d\u0628\u0627",
  "no normal form": "e\u0301 \u00e9",
  "10 kB": "0123456789".repeat(1000)
}

/** Publishes encoded records and claims them again, without a consumer. */
const roundTrip = (node: TestNode, records: ReadonlyArray<EncodedRecord>) =>
  Effect.gen(function* () {
    const transport = yield* Transport.Transport
    const topic = { name: uniqueName("records"), partitions: 1 }
    yield* transport.publish(topic, records)
    const subscription = yield* transport.subscribe({ topic, group: "reader", startFrom: "earliest" })
    const assignment = yield* subscription.next
    const claimed: Array<Transport.ClaimedRecord> = []
    while (claimed.length < records.length) claimed.push(...(yield* assignment.claim(records.length)))
    return claimed
  }).pipe(Effect.scoped, node.run)

const record = (fields: Partial<EncodedRecord>): EncodedRecord => ({
  id: uniqueName("id"),
  key: undefined,
  headers: {},
  time: 1,
  payload: new Uint8Array(),
  ...fields
})

const oddTexts = (harness: Harness, guarantee: (typeof all)[number]) =>
  Effect.gen(function* () {
    const node = yield* harness.start
    const topic = harness.topic(guarantee)
    yield* harness.consume(node, topic)
    for (const [name, text] of Object.entries(texts)) {
      yield* harness.publish(node, topic, [message(`${name} ${text}`, text, text)], {
        [`x-${text}`]: text,
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        empty: ""
      })
    }
    yield* harness.publish(node, topic, [message("empty key", "", "")])
    yield* harness.handled(Object.keys(texts).length + 1, topic)
    // Invariant 18: the same id, key, value and headers in the envelope.
    const history = yield* harness.verify
    const sent = eventsOf(history, "Publish", topic)
    const got = new Map(eventsOf(history, "Start", topic).map((start) => [start.id, start]))
    for (const { content, id, key } of sent) {
      assert.strictEqual(got.get(id)?.content, content)
      assert.strictEqual(got.get(id)?.key, key)
    }
  })

class Order extends Schema.Class<Order>("Order")({
  at: Schema.Date,
  total: Schema.BigInt,
  note: Schema.Option(Schema.String),
  tags: Schema.ReadonlySet(Schema.String),
  ratio: Schema.Number
}) {}

export const records: ReadonlyArray<Scenario> = [
  ...forEach(all, "keeps ids, keys, headers and values of any text", oddTexts),

  ...forEach(all, "a decoded value equals the one that was published", (harness, guarantee) =>
    Effect.gen(function* () {
      const node = yield* harness.start
      const topic = Topic.make(uniqueName("orders"), { schema: Order, guarantee })
      const given = Deferred.makeUnsafe<readonly [Order, Envelope<Order>]>()
      const consumer = Consumer.make(topic, {
        group: "orders",
        handler: (order, envelope) => Deferred.succeed(given, [order, envelope])
      })
      yield* Effect.forkScoped(node.run(Effect.scoped(Layer.launch(Consumer.layer(consumer)))))
      const order = new Order({
        at: new Date(Date.UTC(2026, 6, 28, 12, 30, 15, 123)),
        total: 12345678901234567890n,
        note: Option.some("a note"),
        tags: new Set(["a", "b"]),
        ratio: 0.1 + 0.2
      })
      const receipt = yield* node.run(Producer.publish(topic, order))
      yield* harness.until("the value arrives", Deferred.isDone(given))
      const [value, envelope] = yield* Deferred.await(given)
      assert.deepStrictEqual(value, order)
      assert.instanceOf(value, Order)
      assert.strictEqual(envelope.id, receipt.id)
      assert.strictEqual(envelope.topic, topic.name)
      assert.strictEqual(envelope.attempt, 1)
    })
  ),

  {
    name: "keeps payloads of any bytes, of none, and of as many as the limit allows",
    run: (harness) =>
      Effect.gen(function* () {
        const node = yield* harness.start
        const { maxRecordBytes } = yield* node.run(Transport.Transport)
        const full = record({ key: "k", headers: { a: "b" } })
        const sent = [
          record({ payload: new Uint8Array() }),
          record({ payload: Uint8Array.from({ length: 256 }, (_, byte) => byte) }),
          record({ payload: Uint8Array.of(0), time: 1_800_000_000_123 }),
          { ...full, payload: new Uint8Array(maxRecordBytes - recordBytes(full)).fill(0xff) }
        ]
        assert.strictEqual(recordBytes(sent[3]!), maxRecordBytes)
        const claimed = yield* roundTrip(node, sent)
        assert.deepStrictEqual(
          claimed.map(({ id, key, headers, time }) => ({ id, key, headers, time })),
          sent.map(({ id, key, headers, time }) => ({ id, key, headers, time }))
        )
        claimed.forEach(({ payload }, index) => {
          assert.isTrue(Buffer.compare(payload, sent[index]!.payload) === 0, `payload ${index} came back changed`)
        })
        assert.isTrue(claimed.every(({ offset }, index) => index === 0 || offset > claimed[index - 1]!.offset))
      })
  },

  {
    name: "refuses a record over the limit, with the figures, and stores nothing of its batch",
    run: (harness) =>
      Effect.gen(function* () {
        const node = yield* harness.start
        const transport = yield* node.run(Transport.Transport)
        const topic = { name: uniqueName("records"), partitions: 1 }
        const large = record({ id: "large", key: "é", headers: { ü: "ß" } })
        const over = { ...large, payload: new Uint8Array(transport.maxRecordBytes + 1 - recordBytes(large)) }
        const error = yield* Effect.flip(transport.publish(topic, [record({}), over, record({})]))
        assert.strictEqual(error.reason._tag, "RecordTooLarge")
        if (error.reason._tag === "RecordTooLarge") {
          assert.strictEqual(error.reason.id, "large")
          assert.strictEqual(error.reason.bytes, transport.maxRecordBytes + 1)
          assert.strictEqual(error.reason.limit, transport.maxRecordBytes)
        }
        assert.isFalse(error.isRetryable)
        yield* transport.publish(topic, [record({ id: "first" })])
        const claimed = yield* Effect.scoped(
          Effect.gen(function* () {
            const { next } = yield* transport.subscribe({ topic, group: "reader", startFrom: "earliest" })
            return yield* (yield* next).claim(10)
          })
        )
        assert.deepStrictEqual(
          claimed.map(({ id }) => id),
          ["first"]
        )
      })
  },

  {
    name: "records of one key lie in one partition, in publish order",
    run: (harness) =>
      Effect.gen(function* () {
        const node = yield* harness.start
        const transport = yield* node.run(Transport.Transport)
        const topic = { name: uniqueName("records"), partitions: 3 }
        const sent = Array.from({ length: 30 }, (_, index) => record({ id: `r-${index}`, key: `key-${index % 7}` }))
        yield* transport.publish(topic, sent.slice(0, 11))
        yield* transport.publish(topic, sent.slice(11))
        yield* Effect.scoped(
          Effect.gen(function* () {
            const { next } = yield* transport.subscribe({ topic, group: "reader", startFrom: "earliest" })
            for (let i = 0; i < topic.partitions; i++) {
              const { claim, partition } = yield* next
              const expected = sent.filter((each) => harness.partitionOf(each, topic.partitions) === partition)
              const claimed: Array<Transport.ClaimedRecord> = []
              while (claimed.length < expected.length) claimed.push(...(yield* claim(4)))
              assert.deepStrictEqual(
                claimed.map(({ id, partition }) => [id, partition]),
                expected.map(({ id }) => [id, partition])
              )
            }
          })
        )
      })
  },

  {
    name: "a topic keeps its number of partitions",
    run: (harness) =>
      Effect.gen(function* () {
        const node = yield* harness.start
        const transport = yield* node.run(Transport.Transport)
        const name = uniqueName("records")
        yield* transport.declare({ name, partitions: 2 })
        yield* transport.declare({ name, partitions: 2 })
        const error = yield* Effect.flip(transport.declare({ name, partitions: 3 }))
        assert.strictEqual(error.reason._tag, "TopicMismatch")
        assert.strictEqual(
          (yield* Effect.flip(transport.publish({ name, partitions: 3 }, [record({})]))).reason._tag,
          "TopicMismatch"
        )
      })
  },

  {
    name: "progress of a group that is not registered is an error",
    run: (harness) =>
      Effect.gen(function* () {
        const node = yield* harness.start
        const transport = yield* node.run(Transport.Transport)
        const topic = { name: uniqueName("records"), partitions: 2 }
        yield* transport.declare(topic)
        assert.strictEqual((yield* Effect.flip(transport.progress(topic.name, "nobody"))).reason._tag, "InvalidState")
      })
  }
]
