import { assert, describe, it } from "@effect/vitest"
import { Codec, Consumer, Producer, Surety, Topic, Transport } from "@surety/core"
import { Deferred, Effect, Layer, Schema, SchemaGetter } from "effect"
import { during, lag, letters, quiet } from "./support.ts"

const topic = <S extends Schema.Constraint>(schema: S) =>
  Topic.make("values", { schema, guarantee: "at-least-once", partitions: 1 })

/** What a handler receives of a value that is published. */
const roundTrip = <S extends Schema.Codec<any, any>>(schema: S, value: S["Type"]) =>
  Effect.gen(function* () {
    const received = yield* Deferred.make<S["Type"]>()
    const Values = topic(schema)
    return yield* during(
      Consumer.make(Values, { group: "readers", handler: (payload) => Deferred.succeed(received, payload) }),
      Effect.andThen(Producer.publish(Values, value), Deferred.await(received))
    )
  })

/** Puts bytes on the topic that no producer of it would. */
const publishBytes = (payload: Uint8Array) =>
  Effect.flatMap(Transport.Transport, (transport) =>
    transport.publish({ name: "values", partitions: 1 }, [
      { id: "raw", key: undefined, headers: { from: "elsewhere" }, time: 7, payload }
    ])
  )

class Point extends Schema.Class<Point>("Point")({ x: Schema.Number }) {}

describe("the JSON codec", () => {
  const values: ReadonlyArray<readonly [string, Schema.Codec<any, any>, unknown]> = [
    ["text with NUL, quotes, emoji", Schema.String, '\0"\\😀\u2028'],
    ["text with a lone surrogate", Schema.String, "\ud800"],
    ["NaN", Schema.Number, Number.NaN],
    ["infinity", Schema.Number, Number.NEGATIVE_INFINITY],
    ["bigint", Schema.BigInt, 2n ** 80n],
    ["date", Schema.Date, new Date(1)],
    ["bytes", Schema.Uint8Array, new Uint8Array([0, 255])],
    ["undefined", Schema.Undefined, undefined],
    ["void", Schema.Void, undefined],
    ["null", Schema.Null, null],
    ["class", Point, new Point({ x: 1 })],
    ["own __proto__", Schema.Record(Schema.String, Schema.Number), JSON.parse('{"__proto__": 1}')]
  ]
  for (const [name, schema, value] of values) {
    it.effect(`returns what was published: ${name}`, () =>
      Effect.gen(function* () {
        assert.deepStrictEqual(yield* roundTrip(schema, value), value)
      }).pipe(Effect.provide(Surety.layerMemory))
    )
  }

  it.effect("refuses what JSON cannot hold, before anything is sent", () =>
    Effect.gen(function* () {
      const sent = yield* Effect.flip(Producer.publish(topic(Schema.Any), () => 1))
      assert.strictEqual(sent.reason._tag, "EncodeFailed")
      assert.throws(() => Codec.json.encode(undefined))
    }).pipe(Effect.provide(Surety.layerMemory))
  )

  for (const [name, bytes, error] of [
    ["no bytes", [], "SyntaxError"],
    ["malformed JSON", [0x7b], "SyntaxError"],
    ["malformed UTF-8", [0x22, 0xff, 0x22], "TypeError"],
    ["JSON of another shape", [0x31], "SchemaError"]
  ] as const) {
    it.effect(`sends ${name} to the dead letters with its bytes, and goes on`, () =>
      Effect.gen(function* () {
        const received = yield* Deferred.make<string>()
        const Values = topic(Schema.String)
        yield* during(
          Consumer.make(Values, { group: "readers", handler: (text) => Deferred.succeed(received, text) }),
          Effect.gen(function* () {
            yield* publishBytes(Uint8Array.from(bytes))
            yield* Producer.publish(Values, "next")
            assert.strictEqual(yield* Deferred.await(received), "next")
          })
        )
        assert.strictEqual(yield* lag("values", "readers"), 0)
        const [letter, ...others] = yield* letters()
        assert.deepStrictEqual(others, [])
        assert.deepStrictEqual(letter!.record, {
          id: "raw",
          key: undefined,
          headers: { from: "elsewhere" },
          time: 7,
          payload: Uint8Array.from(bytes),
          partition: 0,
          offset: 1
        })
        assert.deepInclude(letter, { topic: "values", group: "readers", attempts: 0 })
        assert.strictEqual(letter!.failure.tag, "DecodeFailed")
        assert.include(letter!.failure.cause, error)
      }).pipe(Effect.provide(Surety.layerMemory))
    )
  }
})

describe("a schema that throws", () => {
  const thrower = (edge: "decode" | "encode") =>
    topic(
      Schema.String.pipe(
        Schema.decodeTo(Schema.String, {
          decode: SchemaGetter.transform((text: string) => {
            if (edge === "decode") throw new Error("a mistake in the schema")
            return text
          }),
          encode: SchemaGetter.transform((text: string) => {
            if (edge === "encode") throw new Error("a mistake in the schema")
            return text
          })
        })
      )
    )

  it.effect("fails the publish", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Producer.publish(thrower("encode"), "a"))
      assert.strictEqual(error.reason._tag, "EncodeFailed")
    }).pipe(Effect.provide(Surety.layerMemory))
  )

  it.effect("sends the message to the dead letters", () =>
    Effect.gen(function* () {
      const Values = thrower("decode")
      yield* during(
        Consumer.make(Values, { group: "readers", handler: () => Effect.void }),
        Effect.andThen(Producer.publish(Values, "a"), quiet)
      )
      const [letter] = yield* letters()
      assert.deepInclude(letter, { attempts: 0 })
      assert.strictEqual(letter!.failure.tag, "DecodeFailed")
    }).pipe(Effect.provide(Surety.layerMemory))
  )
})

describe("another codec", () => {
  const reversed = Codec.layer({
    contentType: "application/x-reversed",
    encode: (value) => Codec.json.encode(value).reverse(),
    decode: (bytes) => Codec.json.decode(Uint8Array.from(bytes).reverse())
  })

  it.effect("is used at both edges, and names its media type", () =>
    Effect.gen(function* () {
      const received = yield* Deferred.make<readonly [string, unknown]>()
      const Values = topic(Schema.String)
      yield* during(
        Consumer.make(Values, {
          group: "readers",
          handler: (text, { headers }) => Deferred.succeed(received, [text, headers])
        }),
        Effect.gen(function* () {
          yield* Producer.publish(Values, "abc")
          assert.deepStrictEqual(yield* Deferred.await(received), ["abc", { "content-type": "application/x-reversed" }])
        })
      )
    }).pipe(Effect.provide(Layer.merge(Surety.layerMemory, reversed)))
  )

  it.effect("may write no bytes at all", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* roundTrip(Schema.Literal("only"), "only"), "only")
    }).pipe(
      Effect.provide(Surety.layerMemory),
      Effect.provide(
        Codec.layer({ contentType: "application/x-only", encode: () => new Uint8Array(), decode: () => "only" })
      )
    )
  )

  it.effect("that throws fails the publish", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Producer.publish(topic(Schema.String), "a"))
      if (error.reason._tag !== "EncodeFailed") return assert.fail(error.message)
      assert.include(String(error.reason.cause), "cannot")
    }).pipe(
      Effect.provide(Surety.layerMemory),
      Effect.provide(
        Codec.layer({
          ...Codec.json,
          encode: () => {
            throw new Error("cannot")
          }
        })
      )
    )
  )
})
