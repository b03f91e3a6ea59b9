/** What is published arrives: everything, in order, nothing else, where it belongs. */
import { assert } from "@effect/vitest"
import * as Transport from "@surety/core/Transport"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { eventsOf, message, messages } from "./model.ts"
import { all, forEach, lossless, type Scenario } from "./scenario.ts"

export const delivery: ReadonlyArray<Scenario> = [
  ...forEach(all, "every group handles every message, from whichever node it comes", (harness, guarantee) =>
    Effect.gen(function* () {
      const one = yield* harness.start
      const two = yield* harness.start
      const topic = harness.topic(guarantee)
      yield* harness.publish(one, topic, messages(20, 5, "before"))
      yield* harness.consume(one, topic, { group: "a" })
      yield* harness.consume(two, topic, { group: "b", concurrency: 4 })
      yield* harness.publish(two, topic, messages(20, 5, "after"))
      yield* harness.handled(40, topic, "a")
      yield* harness.handled(40, topic, "b")
      const history = yield* harness.verify
      assert.strictEqual(eventsOf(history, "Start", topic).length, 80)
    })
  ),

  ...forEach(all, "keeps the order of each key while keys run concurrently", (harness, guarantee) =>
    Effect.gen(function* () {
      const node = yield* harness.start
      const topic = harness.topic(guarantee)
      let turn = 0
      yield* harness.consume(node, topic, {
        concurrency: 4,
        batchSize: 3,
        // Runs take different numbers of turns, so that they would overtake each other.
        handle: () => Effect.forEach(Array.from({ length: (turn++ * 7) % 5 }), () => Effect.yieldNow)
      })
      for (const batch of [0, 1, 2]) yield* harness.publish(node, topic, messages(20, 3, `batch-${batch}`))
      yield* harness.handled(60, topic)
      const history = yield* harness.verify
      for (const key of ["key-0", "key-1", "key-2"]) {
        const ids = eventsOf(history, "Start", topic).filter((start) => start.key === key)
        const published = eventsOf(history, "Publish", topic).filter((publish) => publish.key === key)
        assert.deepStrictEqual(
          ids.map(({ id }) => id),
          published.map(({ id }) => id)
        )
      }
    })
  ),

  ...forEach(all, "a batch with a record over the limit is refused whole", (harness, guarantee) =>
    Effect.gen(function* () {
      const node = yield* harness.start
      const topic = harness.topic(guarantee)
      yield* harness.consume(node, topic)
      const { maxRecordBytes } = yield* node.run(Transport.Transport)
      const refused = yield* Effect.flip(
        harness.publish(node, topic, [
          message("small-1", "k"),
          message("large", "k", "x".repeat(maxRecordBytes)),
          message("small-2", "k")
        ])
      )
      assert.strictEqual(refused.reason._tag, "NotSent")
      if (refused.reason._tag === "NotSent") assert.strictEqual(refused.reason.cause.reason._tag, "RecordTooLarge")
      assert.isFalse(refused.isRetryable)
      // Of the same key, so that what was refused would be read before it.
      yield* harness.publish(node, topic, [message("next", "k")])
      yield* harness.handled(1, topic)
      const history = yield* harness.verify
      assert.deepStrictEqual(
        eventsOf(history, "Start", topic).map(({ id }) => id),
        ["next"]
      )
    })
  ),

  ...forEach(lossless, "a group that starts at the latest record sees what comes after it", (harness, guarantee) =>
    Effect.gen(function* () {
      const node = yield* harness.start
      const topic = harness.topic(guarantee)
      yield* harness.publish(node, topic, messages(12, 6, "before"))
      yield* harness.consume(node, topic, { group: "latest", startFrom: "latest" })
      yield* harness.consume(node, topic, { group: "earliest", startFrom: "earliest" })
      yield* harness.publish(node, topic, messages(12, 6, "after"))
      yield* harness.handled(12, topic, "latest")
      yield* harness.handled(24, topic, "earliest")
      const history = yield* harness.verify
      const late = eventsOf(history, "Start", topic).filter(({ group }) => group === "latest")
      assert.deepStrictEqual(
        late.filter(({ id }) => id.startsWith("before")),
        []
      )
    })
  ),

  ...forEach(lossless, "a group goes on where it stopped, whatever it says of its start", (harness, guarantee) =>
    Effect.gen(function* () {
      const node = yield* harness.start
      const topic = harness.topic(guarantee)
      const first = yield* harness.consume(node, topic)
      yield* harness.publish(node, topic, messages(10, 5, "first"))
      yield* harness.handled(10, topic)
      yield* harness.settled(topic)
      yield* first.stop
      yield* harness.publish(node, topic, messages(10, 5, "second"))
      yield* harness.consume(node, topic, { startFrom: "latest" })
      yield* harness.handled(20, topic)
      const history = yield* harness.verify
      assert.strictEqual(eventsOf(history, "Start", topic).length, 20)
    })
  ),

  ...forEach(all, "groups and topics do not see each other", (harness, guarantee) =>
    Effect.gen(function* () {
      const node = yield* harness.start
      const [left, right] = [harness.topic(guarantee), harness.topic(guarantee)]
      yield* harness.consume(node, left, { group: "same" })
      yield* harness.consume(node, right, { group: "same" })
      yield* harness.consume(node, left, {
        group: "fails",
        handle: () => Effect.die("this group's trouble"),
        defectRetry: Schedule.recurs(0)
      })
      // The same ids and keys on both: deduplication is by topic too.
      yield* harness.publish(node, left, [message("x", "k", "left"), message("y", "k", "left")])
      yield* harness.publish(node, right, [message("x", "k", "right"), message("z", "k", "right")])
      yield* harness.handled(2, left, "same")
      yield* harness.handled(2, right, "same")
      const history = yield* harness.verify
      const idsOf = (topic: typeof left) =>
        eventsOf(history, "Start", topic)
          .filter(({ group }) => group === "same")
          .map(({ id }) => id)
      assert.deepStrictEqual(idsOf(left), ["x", "y"])
      assert.deepStrictEqual(idsOf(right), ["x", "z"])
      assert.deepStrictEqual(
        eventsOf(history, "DeadLetter").map(({ group, id, topic }) => [topic, group, id]),
        [
          [left.name, "fails", "x"],
          [left.name, "fails", "y"]
        ]
      )
    })
  ),

  ...forEach(
    lossless,
    "reads records whose transactions commit in another order than they began",
    (harness, guarantee) =>
      Effect.gen(function* () {
        const node = yield* harness.start
        const topic = harness.topic(guarantee)
        yield* harness.consume(node, topic)
        for (const round of [1, 2, 3]) {
          // Each transaction publishes, then waits for the one that began after it; the third rolls back.
          const gates = Array.from({ length: 6 }, () => Deferred.makeUnsafe<void>())
          const open = Array.from({ length: 6 }, () => Deferred.makeUnsafe<void>())
          yield* Effect.forEach(
            Array.from({ length: 5 }, (_, index) => index),
            (index) =>
              Effect.andThen(
                index === 0 ? Effect.void : Deferred.await(open[index - 1]!),
                Effect.exit(
                  harness.publishIn(
                    node,
                    topic,
                    messages(3, 3, `${round}-${index}`),
                    Effect.gen(function* () {
                      yield* Deferred.succeed(open[index]!, undefined)
                      if (index < 4) yield* Deferred.await(gates[index + 1]!)
                      if (index === 2) return yield* Effect.fail("rolled back")
                    })
                  )
                ).pipe(Effect.andThen(Deferred.succeed(gates[index]!, undefined)))
              ),
            { concurrency: "unbounded", discard: true }
          )
          yield* harness.publish(node, topic, messages(1, 1, `${round}-last`))
        }
        // One that reads when all have committed knows what there is to read (invariant 9).
        yield* harness.consume(node, topic, { group: "late" })
        yield* harness.handled(39, topic, "late")
        yield* harness.handled(39, topic)
        const history = yield* harness.verify
        assert.strictEqual(eventsOf(history, "Publish", topic).filter(({ outcome }) => outcome === "fail").length, 9)
        assert.strictEqual(new Set(eventsOf(history, "Start", topic).map(({ id }) => id)).size, 39)
      })
  ).map((scenario) => ({ ...scenario, needsTransactions: true })),

  ...forEach(lossless, "a publish during an outage is repeated with one id until it is stored", (harness, guarantee) =>
    Effect.gen(function* () {
      const node = yield* harness.start
      const publisher = yield* harness.start
      const topic = harness.topic(guarantee)
      yield* harness.consume(node, topic)
      yield* harness.publish(publisher, topic, [message("before", "k")])
      yield* harness.handled(1, topic)
      yield* publisher.disconnect("lost")
      const publishing = yield* Effect.forkScoped(harness.publish(publisher, topic, [message("during", "k")]))
      // Reading through the node that is left takes the store's time, and so the publisher's first try.
      yield* harness.settled(topic)
      assert.isUndefined(publishing.pollUnsafe())
      yield* publisher.reconnect
      yield* harness.until(
        "the publish ends",
        Effect.sync(() => publishing.pollUnsafe() !== undefined)
      )
      yield* harness.handled(2, topic)
      const history = yield* harness.verify
      assert.isTrue(eventsOf(history, "Publish", topic).some(({ id, outcome }) => id === "during" && outcome === "ok"))
    })
  )
]
