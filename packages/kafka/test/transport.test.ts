/** What is Kafka's own: acknowledgements, its wire, its errors, its credentials. What every transport must do is in the conformance suite. */
import { assert, it } from "@effect/vitest"
import { Transport, type TransportError } from "@surety/core"
import * as KafkaClient from "@surety/kafka/KafkaClient"
import * as KafkaTransport from "@surety/kafka/KafkaTransport"
import * as TestKafka from "@surety/testing/TestKafka"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { readAll } from "../src/internal/log.ts"
import { bootstrapServers, describeKafka } from "./support/kafka.ts"
import { layerClient, uniqueName } from "./support/node.ts"

const record = (
  id: string,
  fields: { readonly key?: string; readonly time?: number; readonly size?: number } = {}
) => ({
  id,
  key: fields.key,
  headers: { "content-type": "text/plain" },
  time: fields.time ?? 1_700_000_000_000,
  payload: new Uint8Array(fields.size ?? 3)
})

const claimAll = (topic: Transport.TopicDeclaration, count: number) =>
  Effect.gen(function* () {
    const { subscribe } = yield* Transport.Transport
    const { next } = yield* subscribe({ topic, group: uniqueName("reader"), startFrom: "earliest" })
    const { claim } = yield* next
    const claimed: Array<Transport.ClaimedRecord> = []
    while (claimed.length < count) claimed.push(...(yield* claim(count)))
    return claimed
  }).pipe(Effect.scoped)

const reasonOf = <A, R>(effect: Effect.Effect<A, TransportError, R>) =>
  Effect.map(Effect.flip(effect), ({ reason }) => reason._tag)

describeKafka("KafkaTransport", () => {
  it.live("a seek goes back to records that were fetched before, and so does the one of a successor", () =>
    Effect.gen(function* () {
      const topic = { name: uniqueName("back"), partitions: 1 }
      const group = uniqueName("reader")
      const { publish, subscribe } = yield* Transport.Transport
      const ids = ["a", "b", "c"]
      yield* publish(
        topic,
        ids.map((id) => record(id))
      )
      const holders = ["first", "second"]
      for (const holder of holders) {
        const claimed = yield* Effect.scoped(
          Effect.gen(function* () {
            const assignment = yield* Effect.flatMap(
              subscribe({ topic, group, startFrom: "earliest" }),
              ({ next }) => next
            )
            const claim = (found: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<string>, TransportError> =>
              found.length === ids.length
                ? Effect.succeed(found)
                : Effect.flatMap(assignment.claim(3), (records) => claim([...found, ...records.map(({ id }) => id)]))
            // Nothing of it is settled: it is for whoever keeps the group's progress elsewhere to say.
            if (holder === "first") assert.deepStrictEqual(yield* claim([]), ids)
            yield* assignment.seek(-1)
            return yield* claim([])
          })
        )
        assert.deepStrictEqual(claimed, ids, holder)
      }
    }).pipe(Effect.provide(KafkaTransport.layer({ acks: "all" }).pipe(Layer.provide(layerClient()))))
  )

  for (const acks of ["none", "leader", "all"] as const) {
    it.live(`publishes with acks ${acks}, more than a member holds at once (rule 6)`, () =>
      Effect.gen(function* () {
        const topic = { name: uniqueName("acks"), partitions: 1 }
        const { publish } = yield* Transport.Transport
        const count = 20_000
        yield* publish(
          topic,
          Array.from({ length: count }, (_, index) => record(`${index}`, { key: "k" }))
        )
        const claimed = yield* claimAll(topic, count)
        assert.strictEqual(claimed.at(-1)!.id, `${count - 1}`)
        assert.isTrue(claimed.every(({ id }, index) => id === `${index}`))
      }).pipe(Effect.provide(KafkaTransport.layer({ acks })), Effect.provide(layerClient()))
    )
  }

  it.live("agrees with Kafka's own producers about the partition of a key", () =>
    Effect.gen(function* () {
      const topic = { name: uniqueName("keys"), partitions: 7 }
      const transport = yield* Transport.Transport
      // Hashes of murmur2 as Kafka's own tests have them.
      const hashes = { "21": -973932308, foobar: -790332482, "a-little-bit-long-string": -985981536 }
      yield* transport.publish(
        topic,
        Object.keys(hashes).map((key) => record(key, { key }))
      )
      const { next } = yield* transport.subscribe({ topic, group: uniqueName("reader"), startFrom: "earliest" })
      const found = new Map<string, number>()
      yield* Effect.forkScoped(
        Effect.forever(
          Effect.flatMap(next, ({ claim, partition }) =>
            Effect.forkScoped(
              Effect.forever(
                Effect.map(claim(10), (claimed) => {
                  for (const { id } of claimed) found.set(id, partition)
                })
              )
            )
          )
        )
      )
      while (found.size < 3) yield* Effect.sleep("10 millis")
      for (const [key, hash] of Object.entries(hashes)) assert.strictEqual(found.get(key), (hash & 0x7fffffff) % 7)
    }).pipe(Effect.scoped, Effect.provide(KafkaTransport.layer({ acks: "all" })), Effect.provide(layerClient()))
  )

  it.live("is read by others: the payload as it is, the time as the timestamp, the id and the headers as headers", () =>
    Effect.gen(function* () {
      const topic = { name: uniqueName("wire"), partitions: 1 }
      const { publish } = yield* Transport.Transport
      yield* publish(topic, [record("an id", { key: "a key" }), record("late", { time: Date.now() + 10 * 86_400_000 })])
      const messages: Array<{ key: unknown; value: unknown; timestamp: unknown; headers: unknown }> = []
      yield* readAll(yield* KafkaClient.KafkaClient, topic.name, ({ headers, key, timestamp, value }) => {
        const texts = headers?.map((header) =>
          Object.fromEntries(Object.entries(header).map(([name, text]) => [name, `${text}`]))
        )
        messages.push({ key: key === null ? null : `${key}`, value: [...value!], timestamp, headers: texts })
      })
      assert.deepStrictEqual(messages[0], {
        key: "a key",
        value: [0, 0, 0],
        timestamp: 1_700_000_000_000,
        headers: [{ "content-type": "text/plain" }, { "surety-id": "an id" }]
      })
      // Brokers refuse such a time: it travels as a header.
      const [, late] = yield* claimAll(topic, 2)
      assert.isAbove(late!.time, Date.now() + 9 * 86_400_000)
      assert.isUndefined(late!.key)
    }).pipe(Effect.provide(KafkaTransport.layer({ acks: "all" }).pipe(Layer.provideMerge(layerClient()))))
  )

  it.live("says what is wrong: too large, no such topic, other partitions", () =>
    Effect.gen(function* () {
      const { publish, declare, maxRecordBytes, progress } = yield* Transport.Transport
      const topic = { name: uniqueName("wrong"), partitions: 2 }
      assert.strictEqual(yield* reasonOf(publish(topic, [record("a")])), "InvalidState")
      yield* Effect.flatMap(Transport.Transport, (creating) => creating.declare(topic)).pipe(
        Effect.provide(KafkaTransport.layer({ acks: "all" }).pipe(Layer.provide(layerClient())))
      )
      assert.strictEqual(
        yield* reasonOf(publish(topic, [record("a"), record("b", { size: maxRecordBytes })])),
        "RecordTooLarge"
      )
      assert.strictEqual(yield* reasonOf(declare({ ...topic, partitions: 3 })), "TopicMismatch")
      assert.strictEqual(yield* reasonOf(progress(topic.name, "nobody")), "InvalidState")
      yield* publish(topic, [record("c", { size: maxRecordBytes - 100 })])
    }).pipe(
      Effect.scoped,
      Effect.provide(KafkaTransport.layer({ acks: "all" })),
      Effect.provide(layerClient({ createTopics: false }))
    )
  )

  it.live("a group of a topic that was just made begins at its first record", () =>
    Effect.gen(function* () {
      const { publish } = yield* Transport.Transport
      // A broker that does not know the partitions yet has answered with no offset, which is the end of the log.
      yield* Effect.forEach(
        Array.from({ length: 20 }, () => ({ name: uniqueName("new"), partitions: 1 })),
        (topic) =>
          Effect.gen(function* () {
            const { subscribe } = yield* Transport.Transport
            const { next } = yield* subscribe({ topic, group: "first", startFrom: "earliest" })
            yield* publish(topic, [record("first")])
            const [first] = yield* (yield* next).claim(1)
            assert.strictEqual(first!.id, "first")
          }).pipe(Effect.scoped),
        { concurrency: 5, discard: true }
      )
    }).pipe(Effect.provide(KafkaTransport.layer({ acks: "all" })), Effect.provide(layerClient()))
  )

  it.live("a cluster that demands SASL takes the right credentials, from the configuration, and no others", () =>
    Effect.gen(function* () {
      const kafka = yield* TestKafka.TestKafka
      const transport = (password: string) =>
        KafkaTransport.layer({ acks: "all" }).pipe(
          Layer.provide(
            KafkaClient.layerConfig({
              bootstrapServers: Config.String("servers"),
              sasl: {
                mechanism: Config.succeed("PLAIN" as const),
                username: Config.String("username"),
                password: Config.Redacted("password")
              }
            })
          ),
          Layer.provide(
            ConfigProvider.layer(
              ConfigProvider.fromUnknown({ servers: kafka.bootstrapServers, username: "app", password })
            )
          )
        )
      const topic = { name: "secured", partitions: 1 }
      const claimed = yield* Effect.gen(function* () {
        const { publish } = yield* Transport.Transport
        yield* publish(topic, [record("inside")])
        return yield* claimAll(topic, 1)
      }).pipe(Effect.provide(transport("right")))
      assert.strictEqual(claimed[0]!.id, "inside")
      const refused = yield* Effect.flip(Effect.scoped(Layer.build(transport("wrong"))))
      assert.deepInclude(refused, { _tag: "KafkaClientError", reason: "Refused" })
      assert.notInclude(`${refused}${JSON.stringify(refused)}`, "wrong")
    }).pipe(Effect.provide(TestKafka.layerWith({ sasl: { username: "app", password: "right" } })))
  )

  it.live("a cluster that demands TLS is reached by those that trust it, and by no others", () =>
    Effect.gen(function* () {
      const { bootstrapServers, certificate } = yield* TestKafka.TestKafka
      const transport = (tls: KafkaClient.Options["tls"]) =>
        KafkaTransport.layer({ acks: "all" }).pipe(Layer.provide(layerClient({ bootstrapServers, tls })))
      const topic = { name: "encrypted", partitions: 1 }
      const claimed = yield* Effect.gen(function* () {
        const { publish } = yield* Transport.Transport
        yield* publish(topic, [record("inside")])
        return yield* claimAll(topic, 1)
      }).pipe(Effect.provide(transport({ ca: certificate })))
      assert.strictEqual(claimed[0]!.id, "inside")
      // The system's authorities do not vouch for it.
      const untrusted = yield* Effect.flip(Effect.scoped(Layer.build(transport(true))))
      assert.deepInclude(untrusted, { _tag: "KafkaClientError", reason: "Refused" })
    }).pipe(Effect.provide(TestKafka.layerWith({ tls: true })))
  )

  it.live("a cluster that is not there is unreachable", () =>
    Effect.gen(function* () {
      const unreachable = KafkaClient.layer({ bootstrapServers: "127.0.0.1:1" })
      assert.isString(bootstrapServers)
      const error = yield* Effect.flip(Effect.scoped(Layer.build(unreachable)))
      assert.strictEqual(error.reason, "Unreachable")
    })
  )
})
