/** Messages that another program has published: they have no id of ours. */
import { assert } from "@effect/vitest"
import * as Consumer from "@surety/core/Consumer"
import * as DeadLetters from "@surety/core/DeadLetters"
import type { EncodedRecord, Envelope } from "@surety/core/Envelope"
import * as Topic from "@surety/core/Topic"
import * as Transport from "@surety/core/Transport"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type { Harness } from "./harness.ts"
import { Failed, type TestNode, uniqueName } from "./model.ts"
import { forEach, lossless, type Scenario } from "./scenario.ts"

/** As a transport hands it over that finds no id. */
const raw = (fields: Partial<EncodedRecord>): EncodedRecord => ({
  id: "",
  key: undefined,
  headers: {},
  time: 1_700_000_000_000,
  payload: new TextEncoder().encode('"hello"'),
  ...fields
})

const event = raw({
  headers: {
    ce_specversion: "1.0",
    ce_id: "7",
    ce_source: "/shop",
    ce_type: "sold",
    ce_partitionkey: "key",
    ce_time: "2026-01-02T03:04:05Z"
  }
})

type Seen = Pick<Envelope<string>, "id" | "key" | "time" | "attempt" | "offset">

/** Handles what was published as the topic says; each message at its second attempt, which comes by way of the store where that can be. */
const consume = (harness: Harness, node: TestNode, topic: Topic.Topic<typeof Schema.String, any>) =>
  Effect.gen(function* () {
    const seen: Array<Seen> = []
    const consumer = Consumer.make(topic, {
      group: "group",
      // The runs of a batch that is halved would be seen as well.
      batchSize: 1,
      redeliverAfter: 0,
      handler: (_, { attempt, id, key, offset, time }) => {
        seen.push({ id, key, time, attempt, offset })
        return attempt === 1 ? Effect.fail(new Failed({ detail: "once" })) : Effect.void
      }
    }).pipe(Consumer.retry(Schedule.spaced("1 milli")), Consumer.orDeadLetter)
    yield* Effect.forkScoped(node.run(Consumer.run(consumer)))
    const transport = yield* node.run(Transport.Transport)
    yield* harness.until(
      "everything is settled",
      Effect.match(transport.progress(topic.name, "group"), {
        // The group is not registered yet.
        onFailure: () => false,
        onSuccess: (partitions) => partitions.every(({ lag }) => lag === 0)
      })
    )
    return seen
  })

const letters = (node: TestNode, topic: string) =>
  node.run(Effect.flatMap(DeadLetters.DeadLetters, ({ list }) => Stream.runCollect(list({ topic, group: "group" }))))

export const foreign: ReadonlyArray<Scenario> = [
  ...forEach(lossless, "without an id they have that of their place on every delivery", (harness, guarantee) =>
    Effect.gen(function* () {
      const node = yield* harness.start
      const transport = yield* node.run(Transport.Transport)
      const topic = Topic.make(uniqueName("foreign"), {
        schema: Schema.String,
        guarantee,
        partitions: 1,
        foreign: "consume"
      })
      // Equal in all but their places.
      yield* transport.publish(Topic.declaration(topic), [raw({ key: "key" }), raw({ key: "key" })])
      const seen = yield* consume(harness, node, topic)
      const offsets = Array.from(new Set(seen.map(({ offset }) => offset)))
      assert.strictEqual(offsets.length, 2)
      assert.deepStrictEqual(
        seen.map(({ attempt, id, key }) => [id, key, attempt]),
        offsets.flatMap((offset) => [1, 2].map((attempt) => [`${topic.name}/0/${offset}`, "key", attempt]))
      )
      assert.deepStrictEqual(yield* letters(node, topic.name), [])
    })
  ),

  ...forEach(lossless, "without an id they are dead letters where the topic does not say more", (harness, guarantee) =>
    Effect.gen(function* () {
      const node = yield* harness.start
      const transport = yield* node.run(Transport.Transport)
      const topic = Topic.make(uniqueName("foreign"), { schema: Schema.String, guarantee, partitions: 1 })
      yield* transport.publish(Topic.declaration(topic), [raw({ key: "key", headers: { a: "b" } }), event])
      const seen = yield* consume(harness, node, topic)
      assert.deepStrictEqual(
        seen.map(({ id }) => id),
        ["/shop 7", "/shop 7"]
      )
      const [letter, ...others] = yield* letters(node, topic.name)
      assert.deepStrictEqual(others, [])
      assert.strictEqual(letter!.failure.tag, "MissingId")
      assert.strictEqual(letter!.attempts, 0)
      const { headers, id, key, offset, payload } = letter!.record
      assert.deepStrictEqual(
        [id, key, headers, new TextDecoder().decode(payload)],
        [`${topic.name}/0/${offset}`, "key", { a: "b" }, '"hello"']
      )
    })
  ),

  ...forEach(lossless, "that are CloudEvents have their ids, keys and times", (harness, guarantee) =>
    Effect.gen(function* () {
      const node = yield* harness.start
      const transport = yield* node.run(Transport.Transport)
      const topic = Topic.make(uniqueName("foreign"), { schema: Schema.String, guarantee, partitions: 1 })
      const elsewhere = raw({ ...event, headers: { ...event.headers, ce_source: "/store" } })
      yield* transport.publish(Topic.declaration(topic), [event, event, elsewhere])
      const seen = yield* consume(harness, node, topic)
      const copies = guarantee === "exactly-once" ? 1 : 2
      assert.deepStrictEqual(
        seen.map(({ attempt, id, key, time }) => [id, key, time, attempt]),
        [...Array.from({ length: copies }, () => "/shop 7"), "/store 7"].flatMap((id) =>
          [1, 2].map((attempt) => [id, "key", Date.UTC(2026, 0, 2, 3, 4, 5), attempt])
        )
      )
      assert.deepStrictEqual(yield* letters(node, topic.name), [])
    })
  )
]
