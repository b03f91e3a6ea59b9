/** Handlers of batches, and what a handler decides about its own message. */
import { assert } from "@effect/vitest"
import * as Consumer from "@surety/core/Consumer"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { eventsOf, Failed, message, messages, type Running } from "./model.ts"
import { forEach, lossless, type Scenario } from "./scenario.ts"

const fail = Effect.fail(new Failed({ detail: "as the test wants it" }))
const often = Consumer.retry<Failed>(Schedule.recurs(5))

export const batches: ReadonlyArray<Scenario> = [
  ...forEach(
    lossless,
    "batches keep the order of each key, and the message at fault ends alone",
    (harness, guarantee) =>
      Effect.gen(function* () {
        const node = yield* harness.start
        const topic = harness.topic(guarantee, { partitions: 2 })
        const taken: Array<ReadonlyArray<string>> = []
        yield* harness.publish(node, topic, messages(60, 6))
        yield* harness.consume(node, topic, {
          batch: { maxSize: 8, taken: (ids) => taken.push(ids) },
          rules: Consumer.retry<Failed>(Schedule.recurs(1)),
          handle: ({ id }) => (id === "m-20" ? fail : Effect.void)
        })
        yield* harness.handled(59, topic)
        yield* harness.verify
        assert.deepStrictEqual(
          (yield* harness.deadLetters(topic)).map(({ attempts, record }) => [record.id, attempts]),
          [["m-20", 2]]
        )
        assert.isTrue(taken.every((ids) => ids.length <= 8))
        assert.isAbove(Math.max(...taken.map((ids) => ids.length)), 1)
        // Halved, and not handled one by one: 8, 4, 2, and its two attempts.
        assert.isAtMost(taken.filter((ids) => ids.includes("m-20")).length, 5)
        assert.deepStrictEqual(taken.filter((ids) => ids.includes("m-20")).at(-1), ["m-20"])
      })
  ),

  ...forEach(
    ["exactly-once"],
    "a batch is one transaction: all that its messages wrote and published, or nothing",
    (harness, guarantee) =>
      Effect.gen(function* () {
        const one = yield* harness.start
        const topic = harness.topic(guarantee, { partitions: 1 })
        const out = harness.topic("at-least-once", { partitions: 1 })
        const taken: Array<ReadonlyArray<string>> = []
        let failed = false
        const handle = (run: Running) =>
          Effect.gen(function* () {
            yield* run.emit(out, message(`out of ${run.id} by run ${run.run}`))
            if (run.id === "m-4" && !failed) {
              failed = true
              return yield* fail
            }
            if (run.id === "m-13" && run.on === one) return yield* Effect.andThen(run.on.crash, Effect.never)
          })
        const options = {
          batch: { maxSize: 8, taken: (ids: ReadonlyArray<string>) => taken.push(ids) },
          handle,
          rules: often
        }
        yield* harness.publish(one, topic, messages(24, 24))
        yield* harness.consume(one, topic, options)
        yield* harness.seen("the crash", (history) => eventsOf(history, "Crash").length === 1)
        const two = yield* harness.start
        yield* harness.consume(two, out, { group: "observer" })
        yield* harness.consume(two, topic, options)
        yield* harness.handled(24, topic)
        yield* harness.handled(24, out, "observer")
        const history = yield* harness.verify
        assert.deepStrictEqual(
          eventsOf(history, "Start", out)
            .map(({ id }) => id.split(" ")[2]!)
            .toSorted(),
          messages(24, 24)
            .map(({ id }) => id)
            .toSorted()
        )
        // Of the batch that failed first nothing was kept: each of its messages was taken again.
        const first = taken[0]!
        assert.include(first, "m-4")
        for (const id of first) assert.isAbove(taken.filter((ids) => ids.includes(id)).length, 1, id)
      })
  ),

  ...forEach(lossless, "a handler rejects its message, past all retries", (harness, guarantee) =>
    Effect.gen(function* () {
      const node = yield* harness.start
      const topic = harness.topic(guarantee)
      yield* harness.consume(node, topic, {
        batchSize: 1,
        rules: often,
        handle: ({ id }) => (id === "m-2" ? Consumer.reject("no such account") : Effect.void)
      })
      yield* harness.publish(node, topic, messages(4, 1))
      yield* harness.handled(3, topic)
      yield* harness.verify
      assert.deepStrictEqual(
        (yield* harness.deadLetters(topic)).map(({ attempts, failure, record }) => [
          record.id,
          attempts,
          failure.tag,
          failure.message
        ]),
        [["m-2", 1, "Rejected", "no such account"]]
      )
    })
  ),

  ...(["waits under its lease", "is kept aside"] as const).flatMap((how) =>
    forEach(lossless, `a handler puts its message off, which ${how}, and its key with it`, (harness, guarantee) =>
      Effect.gen(function* () {
        const node = yield* harness.start
        const topic = harness.topic(guarantee, { partitions: 1 })
        const delay = 300
        yield* harness.consume(node, topic, {
          batchSize: 1,
          ...(how === "is kept aside" ? { redeliverAfter: "20 millis" } : {}),
          handle: ({ attempt, id }) => (id === "busy" && attempt < 3 ? Consumer.retryAfter(delay) : Effect.void)
        })
        yield* harness.publish(node, topic, [message("busy", "a"), message("behind", "a"), message("beside", "b")])
        yield* harness.handled(3, topic)
        const history = yield* harness.verify
        const starts = eventsOf(history, "Start", topic)
        assert.deepStrictEqual(
          starts.map(({ attempt, id }) => [id, attempt]),
          [
            ["busy", 1],
            ["beside", 1],
            ["busy", 2],
            ["busy", 3],
            ["behind", 1]
          ]
        )
        const times = starts.flatMap(({ id, time }) => (id === "busy" ? [time] : []))
        assert.isAtLeast(times[1]! - times[0]!, delay - 1)
        assert.isAtLeast(times[2]! - times[1]!, delay - 1)
      })
    )
  )
]
