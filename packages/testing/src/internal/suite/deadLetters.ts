/** Dead letters that are redriven: to the group that failed, once, as they were (invariants 14, 15 and 5). */
import { assert } from "@effect/vitest"
import * as Consumer from "@surety/core/Consumer"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { eventsOf, Failed, message, messages } from "./model.ts"
import { all, forEach, lossless, type Scenario } from "./scenario.ts"

/** Fails on some ids, until it is mended. */
const fragile = (...ids: ReadonlyArray<string>) => {
  const broken = new Set(ids)
  return {
    broken,
    handle: ({ id }: { readonly id: string }) =>
      Effect.suspend(() => (broken.has(id) ? Effect.fail(new Failed({ detail: `${id} is broken` })) : Effect.void))
  }
}

const twice = Consumer.retry<Failed>(Schedule.recurs(1))

export const deadLetters: ReadonlyArray<Scenario> = [
  ...forEach(all, "a redriven message goes to the group that failed, whole, and to no other", (harness, guarantee) =>
    Effect.gen(function* () {
      const node = yield* harness.start
      const topic = harness.topic(guarantee)
      const { broken, handle } = fragile("m-2", "m-3")
      yield* harness.consume(node, topic, { handle })
      yield* harness.consume(node, topic, { group: "other" })
      const headers = { traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "x-é": "\u0000" }
      yield* harness.publish(node, topic, messages(6, 1), headers)
      yield* harness.handled(4, topic)
      yield* harness.handled(6, topic, "other")
      yield* harness.settled(topic)
      const [before] = yield* harness.deadLetters(topic)
      assert.match(before!.failure.cause, /Failed/)
      broken.clear()
      assert.strictEqual(yield* harness.redrive(node, topic, { id: "m-2" }), 1)
      assert.strictEqual(yield* harness.redrive(node, topic, { id: "m-2" }), 0)
      yield* harness.handled(5, topic)
      // Published later, to both: what the redrive could have published lies before it.
      yield* harness.publish(node, topic, messages(2, 2, "later"), headers)
      yield* harness.handled(7, topic)
      yield* harness.handled(8, topic, "other")
      const history = yield* harness.verify
      const starts = eventsOf(history, "Start", topic).filter(({ id }) => id === "m-2")
      const redriven = eventsOf(history, "Redrive", topic)[0]!
      const [again, ...others] = starts.filter(({ seq }) => seq > redriven.seq)
      assert.deepStrictEqual(others, [])
      assert.deepStrictEqual([again!.group, again!.attempt], ["group", 1])
      if (redriven.appended !== true) assert.strictEqual(again!.offset, before!.record.offset)
      assert.strictEqual(starts.filter(({ group }) => group === "other").length, 1)
      assert.deepStrictEqual(
        (yield* harness.deadLetters(topic)).map(({ record }) => record.id),
        ["m-3"]
      )
    })
  ),

  ...forEach(
    lossless,
    "what fails again after its redrive is dead again, with attempts from zero",
    (harness, guarantee) =>
      Effect.gen(function* () {
        const node = yield* harness.start
        const topic = harness.topic(guarantee)
        const { broken, handle } = fragile("m-2")
        yield* harness.consume(node, topic, { handle, rules: twice })
        yield* harness.publish(node, topic, messages(4, 2))
        const attempts = () =>
          eventsOf(harness.history.events, "Start", topic).flatMap(({ attempt, id }) => (id === "m-2" ? [attempt] : []))
        for (const round of [1, 2]) {
          yield* harness.seen("the last attempt", () => attempts().filter((attempt) => attempt === 2).length === round)
          yield* harness.handled(3, topic)
          yield* harness.settled(topic)
          assert.deepStrictEqual(
            (yield* harness.deadLetters(topic)).map(({ attempts, record }) => [record.id, attempts]),
            [["m-2", 2]]
          )
          if (round === 2) broken.clear()
          assert.strictEqual(yield* harness.redrive(node, topic), 1)
        }
        yield* harness.handled(4, topic)
        yield* harness.verify
        // A batch of which a message fails is none of its attempts.
        assert.deepStrictEqual(attempts().slice(-1), [1])
        assert.deepStrictEqual(yield* harness.deadLetters(topic), [])
      })
  ),

  ...forEach(
    ["exactly-once"],
    "a duplicate that is published before, while and after a message is redriven has no second effect",
    (harness, guarantee) =>
      Effect.gen(function* () {
        const one = yield* harness.start
        const two = yield* harness.start
        const topic = harness.topic(guarantee, { partitions: 2 })
        const ids = Array.from({ length: 8 }, (_, index) => `m-${index}`)
        const { broken, handle } = fragile(...ids)
        for (const node of [one, two]) yield* harness.consume(node, topic, { handle, concurrency: 2 })
        const [elsewhere] = harness.elsewhere(topic, "k")
        const copies = (key: string) => ids.map((id) => message(id, key))
        yield* harness.publish(one, topic, copies("k"))
        yield* harness.publish(one, topic, copies(elsewhere))
        yield* harness.settled(topic)
        assert.strictEqual((yield* harness.deadLetters(topic)).length, ids.length)
        broken.clear()
        yield* Effect.all(
          [
            harness.redrive(one, topic),
            harness.redrive(two, topic),
            harness.publish(one, topic, copies("k")),
            harness.publish(two, topic, copies(elsewhere))
          ],
          { concurrency: "unbounded" }
        )
        yield* harness.handled(ids.length, topic)
        yield* harness.settled(topic)
        yield* harness.publish(one, topic, copies("k"))
        yield* harness.publish(one, topic, [message("last", "k")])
        yield* harness.handled(ids.length + 1, topic)
        yield* harness.verify
        assert.deepStrictEqual(yield* harness.deadLetters(topic), [])
      })
  ),

  ...forEach(lossless, "a redrive that is cut off, and repeated, hands over each message once", (harness, guarantee) =>
    Effect.gen(function* () {
      const worker = yield* harness.start
      const operator = yield* harness.start
      const topic = harness.topic(guarantee)
      const ids = Array.from({ length: 120 }, (_, index) => `m-${index}`)
      const { broken, handle } = fragile(...ids)
      yield* harness.consume(worker, topic, { handle, batchSize: 1, concurrency: 4 })
      yield* harness.publish(
        worker,
        topic,
        ids.map((id, index) => message(id, `key-${index % 20}`))
      )
      yield* harness.settled(topic)
      assert.strictEqual((yield* harness.deadLetters(topic)).length, ids.length)
      broken.clear()
      const redrive = yield* Effect.forkScoped(harness.redrive(operator, topic))
      yield* harness.seen("the first redelivery", (history) => {
        const first = eventsOf(history, "Redrive")[0]
        return first !== undefined && eventsOf(history, "Start", topic).some(({ seq }) => seq > first.seq)
      })
      yield* operator.crash
      yield* harness.until(
        "the redrive ends",
        Effect.sync(() => redrive.pollUnsafe() !== undefined)
      )
      yield* harness.redrive(worker, topic)
      yield* harness.handled(ids.length, topic)
      const history = yield* harness.verify
      const handled = eventsOf(history, "End", topic).flatMap(({ id, outcome }) => (outcome === "ok" ? [id] : []))
      assert.deepStrictEqual(handled.toSorted(), ids.toSorted())
      assert.deepStrictEqual(yield* harness.deadLetters(topic), [])
    })
  )
]
