/** Exactly once: a message's effects, what it published and its settlement are one unit. */
import { assert } from "@effect/vitest"
import * as Consumer from "@surety/core/Consumer"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { Harness } from "./harness.ts"
import { eventsOf, Failed, message, messages, type TestTopic } from "./model.ts"
import type { Scenario } from "./scenario.ts"

const fail = Effect.fail(new Failed({ detail: "as the test wants it" }))
const often = Consumer.retry<Failed>(Schedule.recurs(5))

const committedIds = (harness: Harness, topic: TestTopic) => {
  const history = harness.history.events
  const committed = new Set(eventsOf(history, "Commit").map(({ run }) => run))
  return eventsOf(history, "Start", topic)
    .filter(({ run }) => committed.has(run))
    .map(({ id }) => id)
    .sort()
}

const startedIds = (harness: Harness, topic: TestTopic) =>
  eventsOf(harness.history.events, "Start", topic)
    .map(({ id }) => id)
    .sort()

const scenarios: ReadonlyArray<Omit<Scenario, "needsTransactions">> = [
  {
    name: "effects and messages of each handler commit once, whatever failed before",
    run: (harness) =>
      Effect.gen(function* () {
        const node = yield* harness.start
        const orders = harness.topic("exactly-once")
        const receipts = harness.topic("exactly-once")
        const audit = harness.topic("at-least-once")
        const failures = new Map<string, number>()
        yield* harness.consume(node, orders, {
          concurrency: 2,
          rules: often,
          interruptFails: true,
          defectRetry: Schedule.recurs(5),
          handle: (run) =>
            Effect.gen(function* () {
              const tries = failures.get(run.id) ?? 0
              failures.set(run.id, tries + 1)
              const number = Number(run.id.slice(2))
              if (number % 5 === 1 && tries === 0) return yield* fail
              yield* run.emit(receipts, message(`receipt of ${run.id} by run ${run.run}`, run.key!))
              if (number % 5 === 2 && tries < 2) return yield* fail
              yield* run.emit(audit, message(`audit of ${run.id} by run ${run.run}`, run.key!))
              if (number % 5 === 3 && tries === 0) return yield* Effect.die("a defect after publishing")
              if (number % 5 === 4 && tries === 0) return yield* Effect.interrupt
            })
        })
        yield* harness.consume(node, receipts, { group: "observer" })
        yield* harness.consume(node, audit, { group: "observer" })
        yield* harness.publish(node, orders, messages(25, 5))
        yield* harness.handled(25, receipts, "observer")
        yield* harness.handled(25, audit, "observer")
        yield* harness.verify
        const ids = messages(25, 5).map(({ id }) => id)
        assert.deepStrictEqual(committedIds(harness, orders), ids.sort())
        const sources = (topic: TestTopic) => startedIds(harness, topic).map((id) => id.split(" ")[2]!)
        assert.deepStrictEqual(sources(receipts).sort(), ids)
        assert.deepStrictEqual(sources(audit).sort(), ids)
      })
  },

  {
    name: "nothing that a handler published leaves before its commit, and nothing after a rollback",
    run: (harness) =>
      Effect.gen(function* () {
        const node = yield* harness.start
        const from = harness.topic("exactly-once", { partitions: 1 })
        const to = (["exactly-once", "at-least-once", "at-most-once"] as const).map((guarantee) =>
          harness.topic(guarantee, { partitions: 1 })
        )
        const open = Deferred.makeUnsafe<void>()
        yield* harness.consume(node, from, {
          batchSize: 1,
          handle: (run) =>
            Effect.forEach(to, (topic) => run.emit(topic, message(`out of ${run.id}`, "k"))).pipe(
              Effect.andThen(run.id === "rolls-back" ? fail : Deferred.await(open))
            )
        })
        for (const topic of to) yield* harness.consume(node, topic, { group: "observer" })
        yield* harness.publish(node, from, [message("rolls-back", "k"), message("commits", "k")])
        yield* harness.seen("the second handler", (history) =>
          eventsOf(history, "Start", from).some(({ id }) => id === "commits")
        )
        // What the observers could see would lie behind this: they have read it once it is handled.
        for (const topic of to) {
          yield* harness.publish(node, topic, [message(`mark in ${topic.name}`, "k")])
          yield* harness.handled(1, topic, "observer")
        }
        for (const topic of to) assert.deepStrictEqual(startedIds(harness, topic), [`mark in ${topic.name}`])
        yield* Deferred.succeed(open, undefined)
        for (const topic of to) yield* harness.handled(2, topic, "observer")
        yield* harness.verify
        for (const topic of to) {
          assert.deepStrictEqual(startedIds(harness, topic), [`mark in ${topic.name}`, "out of commits"])
        }
        assert.deepStrictEqual(committedIds(harness, from), ["commits"])
      })
  },

  {
    name: "an id that is published again has no second effect",
    run: (harness) =>
      Effect.gen(function* () {
        const node = yield* harness.start
        const topic = harness.topic("exactly-once")
        yield* harness.consume(node, topic)
        const twice = message("twice", "k")
        // In one batch, in another one, on another partition, and after it was handled.
        yield* harness.publish(node, topic, [twice, message("between", "k"), twice])
        yield* harness.publish(node, topic, [twice, message("twice", harness.elsewhere(topic, "k")[0])])
        yield* harness.handled(2, topic)
        yield* harness.settled(topic)
        yield* harness.publish(node, topic, [twice, message("last", "k")])
        yield* harness.handled(3, topic)
        yield* harness.verify
        assert.deepStrictEqual(committedIds(harness, topic), ["between", "last", "twice"])
      })
  },

  ...(["commits", "rolls back"] as const).map((first) => ({
    name: `a copy that arrives while the first is handled waits for it, and the first ${first}`,
    run: (harness: Harness) =>
      Effect.gen(function* () {
        const one = yield* harness.start
        const two = yield* harness.start
        const topic = harness.topic("exactly-once", { partitions: 2 })
        const open = Deferred.makeUnsafe<void>()
        const [other, third] = harness.elsewhere(topic, "k")
        const copies = () => eventsOf(harness.history.events, "Start", topic).filter(({ id }) => id === "copy").length
        let failed = false
        const handle = ({ id }: { readonly id: string }) =>
          id !== "copy" || failed
            ? Effect.void
            : Effect.andThen(
                Deferred.await(open),
                Effect.suspend(() => {
                  failed = first === "rolls back"
                  return failed ? fail : Effect.void
                })
              )
        for (const node of [one, two]) {
          yield* harness.consume(node, topic, { batchSize: 1, concurrency: 2, handle, rules: often })
        }
        // One partition each, from now on: a rebalance would interrupt the first copy.
        yield* harness.reached(two, topic)
        const before = yield* harness.quiesce(topic)
        yield* harness.publish(one, topic, [message("copy", "k")])
        yield* harness.seen("the first copy", () => copies() === 1)
        yield* harness.publish(one, topic, [message("copy", other), message("behind", other), message("beside", third)])
        // Claimed after the second copy, of another key: the second copy is waiting once this is handled.
        yield* harness.handled(before + 1, topic)
        const atOnce = copies()
        yield* Deferred.succeed(open, undefined)
        yield* harness.handled(before + 3, topic)
        yield* harness.verify
        assert.strictEqual(atOnce, 1)
        assert.strictEqual(committedIds(harness, topic).length, before + 3)
      })
  })),

  {
    name: "a failing message is isolated by halving, and the innocent ones of its batch are handled",
    run: (harness) =>
      Effect.gen(function* () {
        const node = yield* harness.start
        const topic = harness.topic("exactly-once", { partitions: 1 })
        yield* harness.publish(node, topic, messages(16, 16))
        yield* harness.consume(node, topic, { batchSize: 16, handle: ({ id }) => (id === "m-6" ? fail : Effect.void) })
        yield* harness.handled(15, topic)
        yield* harness.verify
        assert.strictEqual(committedIds(harness, topic).length, 15)
        const letters = yield* harness.deadLetters(topic)
        assert.deepStrictEqual(
          letters.map(({ attempts, record }) => [record.id, attempts]),
          [["m-6", 1]]
        )
        const starts = eventsOf(harness.history.events, "Start", topic)
        // Alone after 16, 8, 4 and 2 of a batch; never more runs than halvings, and none of them an attempt.
        assert.isAtMost(starts.filter(({ id }) => id === "m-6").length, 5)
        assert.deepStrictEqual(
          starts.filter(({ attempt }) => attempt !== 1),
          []
        )
      })
  },

  {
    name: "a dead-lettered message is settled: its copies are neither handled nor dead-lettered",
    run: (harness) =>
      Effect.gen(function* () {
        const node = yield* harness.start
        const topic = harness.topic("exactly-once", { partitions: 2 })
        yield* harness.consume(node, topic, { handle: ({ id }) => (id === "dead" ? fail : Effect.void) })
        yield* harness.publish(node, topic, [message("dead", "k"), message("next", "k")])
        yield* harness.handled(1, topic)
        yield* harness.settled(topic)
        const runs = eventsOf(harness.history.events, "Start", topic).length
        yield* harness.publish(node, topic, [message("dead", "k"), message("dead", harness.elsewhere(topic, "k")[0])])
        yield* harness.settled(topic)
        yield* harness.verify
        assert.strictEqual(eventsOf(harness.history.events, "Start", topic).length, runs)
        assert.strictEqual((yield* harness.deadLetters(topic)).length, 1)
        assert.deepStrictEqual(committedIds(harness, topic), ["next"])
      })
  }
]

export const units: ReadonlyArray<Scenario> = scenarios.map((scenario) => ({ ...scenario, needsTransactions: true }))
