/** Messages that are to come later, and messages of other versions of their schema. */
import { assert } from "@effect/vitest"
import * as Consumer from "@surety/core/Consumer"
import * as Producer from "@surety/core/Producer"
import * as Topic from "@surety/core/Topic"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import { eventsOf, message, uniqueName } from "./model.ts"
import { all, forEach, lossless, type Scenario } from "./scenario.ts"

const First = Schema.Struct({ id: Schema.String, name: Schema.String })
const Second = Schema.Struct({ id: Schema.String, words: Schema.Array(Schema.String) })

export const later: ReadonlyArray<Scenario> = [
  ...forEach(
    lossless,
    "a delayed message comes at its time, by due time, without its publisher",
    (harness, guarantee) =>
      Effect.gen(function* () {
        const publisher = yield* harness.start
        const node = yield* harness.start
        const topic = harness.topic(guarantee, { partitions: 1 })
        const [soon, late] = [harness.leaseMillis / 4, harness.leaseMillis / 2]
        yield* harness.consume(node, topic, { batchSize: 1 })
        yield* harness.publishLater(publisher, topic, [message("third"), message("fourth")], late)
        yield* harness.publishLater(publisher, topic, [message("second")], soon)
        yield* harness.publish(publisher, topic, [message("first")])
        yield* publisher.crash
        yield* harness.handled(4, topic)
        const history = yield* harness.verify
        assert.deepStrictEqual(
          eventsOf(history, "Start", topic).map(({ id }) => id),
          ["first", "second", "third", "fourth"]
        )
        const timeOf = (tag: "Publish" | "Start", id: string) =>
          eventsOf(history, tag, topic).find((event) => event.id === id)!.time
        // The publish is recorded once it is acknowledged, by a clock of its own.
        const slack = 50
        assert.isAtLeast(timeOf("Start", "second"), timeOf("Publish", "second") + soon - slack)
        assert.isAtLeast(timeOf("Start", "third"), timeOf("Publish", "third") + late - slack)
      })
  ),

  ...forEach(["exactly-once"], "a delayed message and its copies have one effect", (harness, guarantee) =>
    Effect.gen(function* () {
      const node = yield* harness.start
      const topic = harness.topic(guarantee)
      yield* harness.consume(node, topic)
      yield* harness.publishLater(node, topic, [message("copy")], harness.leaseMillis / 8)
      yield* harness.publish(node, topic, [message("copy")])
      yield* harness.publishLater(node, topic, [message("last")], harness.leaseMillis / 8)
      yield* harness.handled(2, topic)
      yield* harness.verify
    })
  ),

  ...forEach(all, "messages of older versions are decoded, those of newer ones wait whole", (harness, guarantee) =>
    Effect.gen(function* () {
      const node = yield* harness.start
      const common = { guarantee, partitions: 1 } as const
      const name = uniqueName("versions")
      const older = First.pipe(
        Schema.decodeTo(Schema.toType(Second), {
          decode: SchemaGetter.transform(({ id, name }) => ({ id, words: name.split(" ") })),
          encode: SchemaGetter.transform(({ id, words }) => ({ id, name: words.join(" ") }))
        })
      )
      const former = Topic.make(name, { ...common, schema: First })
      const current = Topic.make(name, { ...common, schema: Second, version: 2, older: { 1: older } })
      const next = Topic.make(name, { ...common, schema: Schema.Struct({ id: Schema.String }), version: 3 })
      const given: Array<typeof Second.Type> = []
      yield* node.run(Producer.publish(former, { id: "1", name: "one two" }))
      yield* node.run(Producer.publish(next, { id: "3" }))
      yield* node.run(Producer.publish(current, { id: "2", words: ["three"] }))
      yield* node.keep(
        Consumer.start(
          Consumer.make(current, { group: "group", handler: (payload) => Effect.sync(() => given.push(payload)) })
        )
      )
      yield* harness.until(
        "both are given",
        Effect.sync(() => given.length === 2)
      )
      yield* harness.settled(current as never)
      assert.deepStrictEqual(given, [
        { id: "1", words: ["one", "two"] },
        { id: "2", words: ["three"] }
      ])
      const letters = yield* harness.deadLetters(current as never)
      assert.deepStrictEqual(
        letters.map(({ attempts, failure, record }) => [
          attempts,
          failure.tag,
          new TextDecoder().decode(record.payload)
        ]),
        [[0, "UnknownVersion", `{"id":"3"}`]]
      )
    })
  )
]
