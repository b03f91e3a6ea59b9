/** Consumers that stop, pause and are slow: nothing is lost, nothing is left, no more is held than may be (invariants 21 and 22). */
import { assert } from "@effect/vitest"
import * as Consumer from "@surety/core/Consumer"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type { Harness } from "./harness.ts"
import { eventsOf, Failed, message, messages, type TestTopic } from "./model.ts"
import { all, forEach, lossless, type Scenario } from "./scenario.ts"

const fail = Effect.fail(new Failed({ detail: "as the test wants it" }))

/** What a group keeps in the store; skips the test where the backend cannot tell. */
const keptOf = Effect.fnUntraced(function* (harness: Harness, topic: TestTopic) {
  const kept = yield* harness.kept(topic)
  return Option.isSome(kept) ? kept.value : yield* harness.skip("the backend does not tell what a group keeps")
})

const startsOf = (harness: Harness, topic: TestTopic, group = "group") =>
  eventsOf(harness.history.events, "Start", topic).filter((start) => start.group === group)

export const lifecycle: ReadonlyArray<Scenario> = [
  ...forEach(
    lossless,
    "what a consumer that stops had claimed, kept aside and begun is its successor's at once",
    (harness, guarantee) =>
      Effect.gen(function* () {
        const one = yield* harness.start
        const two = yield* harness.start
        const topic = harness.topic(guarantee, { partitions: 2 })
        const open = Deferred.makeUnsafe<void>()
        const rules = Consumer.retry<Failed>(Schedule.spaced("50 millis"))
        const first = yield* harness.consume(one, topic, {
          batchSize: 1,
          concurrency: 2,
          drainTimeout: "1 hour",
          redeliverAfter: "10 millis",
          rules,
          handle: ({ id }) => (id.startsWith("parked") ? fail : Deferred.await(open))
        })
        yield* harness.publish(two, topic, [message("parked-1", "parked"), message("parked-2", "parked")])
        yield* harness.seen("a failure", (history) =>
          eventsOf(history, "End", topic).some(({ id, outcome }) => id === "parked-1" && outcome === "fail")
        )
        yield* harness.publish(two, topic, messages(40, 8))
        const running = () => startsOf(harness, topic).length - eventsOf(harness.history.events, "End", topic).length
        yield* harness.until(
          "as many handlers as may",
          Effect.sync(() => running() === 2 && startsOf(harness, topic).some(({ id }) => id === "m-1" || id === "m-2"))
        )
        const stopping = yield* Effect.forkScoped(first.stop)
        yield* harness.until(
          "it drains",
          Effect.map(first.status, ({ state }) => state === "draining")
        )
        yield* harness.publish(two, topic, messages(4, 4, "late"))
        const begun = startsOf(harness, topic).length
        assert.isUndefined(stopping.pollUnsafe())
        yield* Deferred.succeed(open, undefined)
        yield* harness.until(
          "the consumer has stopped",
          Effect.sync(() => stopping.pollUnsafe() !== undefined)
        )
        // Handlers that ran have ended well, and none has begun but the retries of the parked one, at most.
        assert.deepStrictEqual(
          startsOf(harness, topic)
            .slice(begun)
            .filter(({ id }) => id !== "parked-1"),
          []
        )
        const stopped = harness.history.next
        yield* harness.vacated(topic)
        yield* harness.consume(two, topic, { redeliverAfter: "10 millis", rules })
        yield* harness.handled(46, topic)
        const history = yield* harness.verify
        const from = history.find(({ seq }) => seq >= stopped)!.time
        for (const which of [0, 1]) {
          const first = eventsOf(history, "Start", topic).find(
            ({ partition, seq }) => partition === which && seq >= stopped
          )
          assert.isBelow(first!.time - from, harness.leaseMillis)
        }
        // Nothing of what was claimed counts as an attempt.
        assert.isTrue(startsOf(harness, topic).every(({ attempt, id }) => attempt === 1 || id === "parked-1"))
      })
  ),

  ...forEach(
    all,
    "a paused consumer starts nothing and keeps its partitions, until it is resumed",
    (harness, guarantee) =>
      Effect.gen(function* () {
        const node = yield* harness.start
        const topic = harness.topic(guarantee, { partitions: 2 })
        const paused = yield* harness.consume(node, topic)
        yield* harness.consume(node, topic, { group: "other" })
        yield* harness.publish(node, topic, messages(10, 5))
        yield* harness.handled(10, topic)
        yield* harness.settled(topic)
        assert.deepStrictEqual(yield* paused.status, { state: "running", partitions: [0, 1], inFlight: 0 })
        yield* paused.pause
        yield* harness.publish(node, topic, messages(30, 5, "held"))
        // As much as there is has reached the other group by then.
        yield* harness.handled(40, topic, "other")
        yield* harness.settled(topic, "other")
        assert.strictEqual(startsOf(harness, topic).length, 10)
        assert.deepStrictEqual(yield* paused.status, { state: "paused", partitions: [0, 1], inFlight: 0 })
        yield* paused.resume
        yield* harness.handled(40, topic)
        // One that stops while it is paused lets others go on.
        yield* paused.pause
        yield* harness.publish(node, topic, messages(6, 3, "last"))
        yield* harness.handled(46, topic, "other")
        yield* paused.stop
        const next = yield* harness.start
        yield* harness.consume(next, topic)
        if (guarantee !== "at-most-once") yield* harness.handled(46, topic)
        const history = yield* harness.verify
        assert.isTrue(eventsOf(history, "Start", topic).every(({ attempt }) => attempt === 1))
      })
  ),

  ...forEach(lossless, "while handlers are busy no more is claimed than may be held", (harness, guarantee) =>
    Effect.gen(function* () {
      const node = yield* harness.start
      const topic = harness.topic(guarantee, { partitions: 2 })
      const prefetch = 8
      const open = Deferred.makeUnsafe<void>()
      yield* harness.publish(node, topic, messages(60, 20))
      yield* harness.consume(node, topic, {
        prefetch,
        batchSize: 2,
        concurrency: 3,
        handle: () => Deferred.await(open)
      })
      yield* harness.until(
        "both partitions hold what they may",
        Effect.map(keptOf(harness, topic), ({ claimed }) => claimed >= 2 * prefetch)
      )
      // Another group reads as much in the meantime, and what is published then.
      yield* harness.publish(node, topic, messages(60, 20, "more"))
      yield* harness.consume(node, topic, { group: "other" })
      yield* harness.handled(120, topic, "other")
      const { claimed } = yield* keptOf(harness, topic)
      yield* harness.history.record({
        _tag: "Residue",
        topic: topic.name,
        group: "group",
        what: "records more than may be held",
        count: Math.max(0, claimed - 2 * prefetch)
      })
      assert.isAtMost(startsOf(harness, topic).length, 3)
      yield* Deferred.succeed(open, undefined)
      yield* harness.handled(120, topic)
      yield* harness.verify
    })
  ),

  ...forEach(all, "when everything is settled and everybody has left, nothing is kept", (harness, guarantee) =>
    Effect.gen(function* () {
      // Through it the store is read: a node that is ended in the middle of that would be the test's own failure.
      const reader = yield* harness.start
      const one = yield* harness.start
      const two = yield* harness.start
      const topic = harness.topic(guarantee)
      const failures = new Map<string, number>()
      for (const node of [one, two]) {
        yield* harness.consume(node, topic, {
          batchSize: 4,
          redeliverAfter: "20 millis",
          ...(guarantee === "at-most-once"
            ? {}
            : {
                // Some wait under their lease, some are kept aside.
                rules: Consumer.retry<Failed>(Schedule.exponential("15 millis").pipe(Schedule.upTo({ times: 2 })))
              }),
          handle: ({ id, on }) =>
            Effect.suspend(() => {
              const number = Number(id.slice(2))
              const failed = failures.get(id) ?? 0
              if (id === "m-9" && on === one && failed === 0) {
                failures.set(id, 1)
                return Effect.andThen(on.crash, Effect.never)
              }
              if (number % 6 === 1 || (number % 6 === 2 && failed < 2)) {
                failures.set(id, failed + 1)
                return fail
              }
              return Effect.void
            })
        })
      }
      yield* harness.reached(two, topic)
      yield* harness.publish(reader, topic, messages(36, 9))
      yield* harness.settled(topic)
      // At-most-once messages are settled before their handlers: what will have failed is not known yet.
      if (guarantee !== "at-most-once") yield* harness.redrive(reader, topic)
      yield* harness.verify
      const first = yield* keptOf(harness, topic)
      assert.isAtMost(first.members, 2)
      // The crashed node, if it was one, is forgotten with its lease.
      yield* harness.until(
        "only who lives is a member",
        Effect.map(
          keptOf(harness, topic),
          ({ members }) => members === [one, two].filter(({ state }) => state === "up").length
        )
      )
      for (const node of [one, two]) if (node.state === "up") yield* node.stop
      yield* harness.vacated(topic)
      assert.deepStrictEqual(yield* keptOf(harness, topic), {
        attempts: 0,
        redeliveries: 0,
        pending: 0,
        members: 0,
        leases: 0,
        claimed: 0
      })
    })
  )
]
