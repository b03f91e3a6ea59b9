/** Schemas that change while messages of their former versions are on their way. */
import { assert, describe, it } from "@effect/vitest"
import { Consumer, DeadLetters, Producer, Surety, Topic } from "@surety/core"
import { Effect, Queue, Schema, SchemaGetter } from "effect"
import { during, lag, letters, quiet, takeN } from "./support.ts"

const First = Schema.Struct({ id: Schema.String, name: Schema.String })
const Second = Schema.Struct({ id: Schema.String, first: Schema.String, last: Schema.String })

const common = { guarantee: "exactly-once", partitions: 1, id: ({ id }: { readonly id: string }) => id } as const
const Former = Topic.make("people", { ...common, schema: First })
const Current = Topic.make("people", {
  ...common,
  schema: Second,
  version: 2,
  older: {
    1: First.pipe(
      Schema.decodeTo(Schema.toType(Second), {
        decode: SchemaGetter.transform(({ id, name }) => {
          const [first = "", last = ""] = name.split(" ")
          return { id, first, last }
        }),
        encode: SchemaGetter.transform(({ first, id, last }) => ({ id, name: `${first} ${last}` }))
      })
    )
  }
})
const Next = Topic.make("people", { ...common, schema: Schema.Struct({ id: Schema.String }), version: 3 })

const reader = (names: Queue.Queue<string>) =>
  Consumer.make(Current, { group: "readers", handler: ({ first, last }) => Queue.offer(names, `${last}, ${first}`) })

describe("versions of a schema", () => {
  it.effect("that are older decode to what the handler knows", () =>
    Effect.gen(function* () {
      const names = yield* Queue.unbounded<string>()
      yield* Producer.publish(Former, { id: "1", name: "Ada Lovelace" })
      yield* Producer.publish(Current, { id: "2", first: "Grace", last: "Hopper" })
      yield* during(
        reader(names),
        Effect.gen(function* () {
          assert.deepStrictEqual(yield* takeN(names, 2), ["Lovelace, Ada", "Hopper, Grace"])
        })
      )
    }).pipe(Effect.provide(Surety.layerMemory))
  )

  it.effect("that are newer wait in the dead letters, with what to do, and hold nothing up", () =>
    Effect.gen(function* () {
      const names = yield* Queue.unbounded<string>()
      yield* Producer.publish(Next, { id: "3" })
      yield* Producer.publish(Current, { id: "2", first: "Grace", last: "Hopper" })
      yield* during(reader(names), Queue.take(names))
      const [letter] = yield* letters()
      assert.strictEqual(letter!.failure.tag, "UnknownVersion")
      assert.strictEqual(letter!.attempts, 0)
      assert.include(letter!.failure.message, "version 3 of the topic's schema")
      assert.include(letter!.failure.message, "up to 2")
      // The newer consumer, and a redrive.
      yield* (yield* DeadLetters.DeadLetters).redrive()
      const ids = yield* Queue.unbounded<string>()
      yield* during(
        Consumer.make(Next, { group: "readers", handler: ({ id }) => Queue.offer(ids, id) }),
        Effect.gen(function* () {
          assert.strictEqual(yield* Queue.take(ids), "3")
        })
      )
      assert.strictEqual(yield* lag("people", "readers"), 0)
    }).pipe(Effect.provide(Surety.layerMemory))
  )

  it.effect("that are older and not declared, or no versions at all, are told apart", () =>
    Effect.gen(function* () {
      yield* Producer.publish(Former, { id: "1", name: "Ada Lovelace" })
      yield* Producer.publish(
        Former,
        { id: "2", name: "Ada Lovelace" },
        { headers: { "schema-version": "constructor" } }
      )
      yield* during(Consumer.make(Next, { group: "readers", handler: () => Effect.void }), quiet)
      for (const { failure } of yield* letters()) assert.include(failure.message, 'add it to "older"')
      assert.lengthOf(yield* letters(), 2)
    }).pipe(Effect.provide(Surety.layerMemory))
  )

  for (const [version, older] of [
    [0, {}],
    [1.5, {}],
    [2, { 2: First }],
    [2, { 0: First }]
  ] as const) {
    it.effect(`${version} with ${JSON.stringify(Object.keys(older))} is refused`, () =>
      Effect.gen(function* () {
        const Bad = Topic.make("people", { ...common, schema: First, version, older })
        const error = yield* Effect.flip(Producer.publish(Bad, { id: "1", name: "" }))
        assert.strictEqual(error.reason._tag, "Invalid")
        assert.include(error.message, "schema")
        const refused = yield* Effect.flip(
          Consumer.run(Consumer.make(Bad, { group: "readers", handler: () => Effect.void }))
        )
        assert.strictEqual(refused.reason._tag, "InvalidConsumer")
      }).pipe(Effect.provide(Surety.layerMemory))
    )
  }
})
