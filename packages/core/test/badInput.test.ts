import { assert, describe, it } from "@effect/vitest"
import { Codec, Consumer, type Envelope, MemoryStore, Producer, Surety, Topic } from "@surety/core"
import { Deferred, Effect, Layer, Schema } from "effect"
import { during, lag, layerNode, letters, note, notes } from "./support.ts"

const named = (name: string, partitions?: number) =>
  Topic.make(name, { schema: Schema.String, guarantee: "at-least-once", partitions })
const consumer = (topic: ReturnType<typeof named>, options: Partial<Consumer.Options<never>> = {}) =>
  Consumer.make(topic, { group: "readers", ...options, handler: () => Effect.void })
const build = <A, R>(consumer: Consumer.Consumer<A, never, R>) => Effect.scoped(Layer.build(Consumer.layer(consumer)))

/** The sentence with which a first publish is refused. */
const refusedPublish = (publish: ReturnType<typeof Producer.publish<Schema.String, "at-least-once", any>>) =>
  Effect.map(Effect.flip(publish), ({ message, reason }) => {
    assert.strictEqual(reason._tag, "Invalid")
    return message
  })
/** The sentence with which a consumer's layer is refused. */
const refusedConsumer = <A, R>(consumer: Consumer.Consumer<A, never, R>) =>
  Effect.map(Effect.flip(build(consumer)), ({ message, reason }) => {
    assert.strictEqual(reason._tag, "InvalidConsumer")
    return message
  })

describe("names", () => {
  const bad: ReadonlyArray<readonly [string, string]> = [
    ["", "name is empty"],
    ["x".repeat(201), "has 201 characters; at most 200"],
    ["a b", "characters other than"],
    ["a/b", "characters other than"],
    ["tables'; DROP TABLE log; --", "characters other than"],
    ["zürich", "characters other than"],
    ["a\n", "characters other than"],
    ["\0", "characters other than"],
    ["😀", "characters other than"]
  ]
  for (const [name, sentence] of bad) {
    it.effect(`${JSON.stringify(name.slice(0, 30))} is refused, for topics and groups`, () =>
      Effect.gen(function* () {
        assert.include(yield* refusedPublish(Producer.publish(named(name), "a")), sentence)
        assert.include(yield* refusedConsumer(consumer(named(name))), sentence)
        assert.include(yield* refusedConsumer(consumer(named("fine"), { group: name })), sentence)
      }).pipe(Effect.provide(Surety.layerMemory))
    )
  }

  for (const name of ["a", "A.b_c-9", "x".repeat(200), "__proto__", "constructor", ".."]) {
    it.effect(`${name.slice(0, 30)} is a name`, () =>
      Effect.gen(function* () {
        yield* Producer.publish(named(name), "a")
        const seen = yield* Deferred.make<string>()
        yield* during(
          Consumer.make(named(name), { group: name, handler: (text) => Deferred.succeed(seen, text) }),
          Deferred.await(seen)
        )
        assert.strictEqual(yield* lag(name, name), 0)
      }).pipe(Effect.provide(Surety.layerMemory))
    )
  }
})

describe("numbers", () => {
  for (const partitions of [0, -1, 1.5, 1025, Number.NaN, Number.POSITIVE_INFINITY]) {
    it.effect(`${partitions} partitions are refused`, () =>
      Effect.gen(function* () {
        assert.include(yield* refusedPublish(Producer.publish(named("a", partitions), "a")), "1 to 1,024")
        assert.include(yield* refusedConsumer(consumer(named("a", partitions))), "1 to 1,024")
      }).pipe(Effect.provide(Surety.layerMemory))
    )
  }

  for (const partitions of [1, 1024]) {
    it.effect(`${partitions} partitions are fine`, () =>
      Effect.gen(function* () {
        yield* Producer.publish(named("a", partitions), "a")
        yield* build(consumer(named("a", partitions)))
      }).pipe(Effect.provide(Surety.layerMemory))
    )
  }

  for (const setting of ["concurrency", "batchSize", "prefetch", "maxCrashes"] as const) {
    for (const value of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      it.effect(`a ${setting} of ${value} is refused`, () =>
        Effect.gen(function* () {
          assert.include(
            yield* refusedConsumer(consumer(named("a"), { [setting]: value })),
            `${setting} is ${value}; it is a whole number of at least 1`
          )
        }).pipe(Effect.provide(Surety.layerMemory))
      )
    }
  }

  for (const value of [0, -5, Number.NaN]) {
    it.effect(`a handlerTimeout of ${value}, in which no handler could end, is refused`, () =>
      Effect.gen(function* () {
        assert.include(yield* refusedConsumer(consumer(named("a"), { handlerTimeout: value })), "handlerTimeout")
      }).pipe(Effect.provide(Surety.layerMemory))
    )
  }

  it.effect("a topic that exists with another number of partitions is refused, at both edges", () =>
    Effect.gen(function* () {
      yield* Producer.publish(named("a", 8), "a")
      const published = yield* Effect.flip(Producer.publish(named("a", 9), "a"))
      if (published.reason._tag !== "NotSent") return assert.fail(published.message)
      assert.deepInclude(published.reason.cause.reason, { _tag: "TopicMismatch", declared: 9, stored: 8 })
      assert.isFalse(published.isRetryable)
      const consumed = yield* Effect.flip(build(consumer(named("a", 4))))
      if (consumed.reason._tag !== "TransportFailed") return assert.fail(consumed.message)
      assert.deepInclude(consumed.reason.cause.reason, { _tag: "TopicMismatch", declared: 4, stored: 8 })
      assert.include(consumed.message, "declared with 4 partitions but stored with 8")
    }).pipe(Effect.provide(Surety.layerMemory))
  )
})

describe("ids, keys and headers", () => {
  const Plain = named("plain", 4)

  for (const [name, options] of [
    ["an empty id", { id: "" }],
    ["a lone surrogate in the id", { id: "a\ud800" }],
    ["a lone surrogate in the key", { key: "\udc00" }],
    ["a lone surrogate in a header's name", { headers: { "\ud800": "a" } }],
    ["a lone surrogate in a header", { headers: { a: "\ud800" } }]
  ] as const) {
    it.effect(`${name} is refused, and nothing is sent`, () =>
      Effect.gen(function* () {
        assert.include(
          yield* refusedPublish(Producer.publish(Plain, "a", options)),
          name === "an empty id" ? "id is empty" : "Unicode"
        )
        assert.isUndefined((yield* MemoryStore.MemoryStore).logs.get("plain"))
      }).pipe(Effect.provide(layerNode({ alive: true })), Effect.provide(MemoryStore.layer))
    )
  }

  for (const [name, text] of [
    ["NUL", "a\0b"],
    ["quotes", `'"\`;--`],
    ["emoji", "👩‍👩‍👧😀"],
    ["10 kB", "é".repeat(5000)],
    ["white space", " \t\r\n"],
    ["the names of object members", "__proto__"]
  ] as const) {
    it.effect(`${name} arrive as they were sent`, () =>
      Effect.gen(function* () {
        const seen = yield* Deferred.make<Envelope.Envelope<string>>()
        const headers = Object.fromEntries([[text, text]])
        yield* during(
          Consumer.make(Plain, { group: "readers", handler: (_, envelope) => Deferred.succeed(seen, envelope) }),
          Effect.gen(function* () {
            const receipt = yield* Producer.publish(Plain, "a", { id: text, key: text, headers })
            assert.strictEqual(receipt.id, text)
            const envelope = yield* Deferred.await(seen)
            assert.deepInclude(envelope, { id: text, key: text })
            assert.strictEqual(Object.getOwnPropertyDescriptor(envelope.headers, text)?.value, text)
          })
        )
      }).pipe(Effect.provide(Surety.layerMemory))
    )
  }

  it.effect("a key that is empty is a key", () =>
    Effect.gen(function* () {
      const seen = yield* Deferred.make<string | undefined>()
      const Notes = notes("at-least-once")
      yield* during(
        Consumer.make(Notes, { group: "readers", handler: (_, { key }) => Deferred.succeed(seen, key) }),
        Effect.andThen(Producer.publish(Notes, note("a", "")), Deferred.await(seen))
      )
      assert.strictEqual(yield* Deferred.await(seen), "")
    }).pipe(Effect.provide(Surety.layerMemory))
  )
})

describe("payloads", () => {
  it.effect("of 10 MB are over the limit: refused with the figures, and nothing is sent", () =>
    Effect.gen(function* () {
      const Big = named("big", 1)
      const error = yield* Effect.flip(Producer.publish(Big, "x".repeat(10_000_000), { id: "big" }))
      if (error.reason._tag !== "NotSent") return assert.fail(error.message)
      const { reason } = error.reason.cause
      if (reason._tag !== "RecordTooLarge") return assert.fail(error.message)
      assert.strictEqual(reason.id, "big")
      assert.strictEqual(reason.limit, 1024 * 1024)
      assert.isAbove(reason.bytes, 10_000_000)
      yield* build(consumer(Big))
      assert.strictEqual(yield* lag("big", "readers"), 0)
    }).pipe(Effect.provide(Surety.layerMemory))
  )

  it.effect("may be as large as the limit, and one byte more is too large", () =>
    Effect.gen(function* () {
      const Big = named("b", 1)
      // The limit is for id, key, headers and payload together; JSON adds two quotes.
      const headers = "content-type".length + "application/json".length
      const room = 1024 * 1024 - "id".length - headers - 2
      yield* Producer.publish(Big, "x".repeat(room), { id: "id" })
      const error = yield* Effect.flip(Producer.publish(Big, "x".repeat(room + 1), { id: "id" }))
      assert.include(error.message, "1048577 bytes, over the limit of 1048576")
    }).pipe(Effect.provide(Surety.layerMemory))
  )

  it.effect("of a handler over the limit end its message in the dead letters, and nothing leaves", () =>
    Effect.gen(function* () {
      const In = notes("exactly-once")
      const Out = named("out", 1)
      const after = yield* Deferred.make<void>()
      yield* during(
        Consumer.make(In, {
          group: "readers",
          handler: ({ id }) =>
            id === "big" ? Producer.publish(Out, "x".repeat(2_000_000)) : Deferred.succeed(after, undefined)
        }).pipe(Consumer.orDeadLetter),
        Effect.andThen(Producer.publishAll(In, [note("big"), note("after")]), Deferred.await(after))
      )
      assert.deepStrictEqual(
        (yield* letters()).map(({ failure, record }) => [record.id, failure.tag]),
        [["big", "TransportError"]]
      )
      yield* build(consumer(Out))
      assert.strictEqual(yield* lag("out", "readers"), 0)
      assert.strictEqual(yield* lag("notes", "readers"), 0)
    }).pipe(Effect.provide(Surety.layerMemory))
  )

  it.effect("of no bytes are messages", () =>
    Effect.gen(function* () {
      const seen = yield* Deferred.make<string>()
      const Empty = named("empty", 1)
      yield* during(
        Consumer.make(Empty, { group: "readers", handler: (text) => Deferred.succeed(seen, text) }),
        Effect.andThen(Producer.publish(Empty, ""), Deferred.await(seen))
      )
      assert.strictEqual(yield* Deferred.await(seen), "")
    }).pipe(
      Effect.provide(
        Layer.merge(
          Surety.layerMemory,
          Codec.layer({
            contentType: "text/plain",
            encode: (value) => new TextEncoder().encode(String(value)),
            decode: (bytes) => new TextDecoder().decode(bytes)
          })
        )
      )
    )
  )
})
