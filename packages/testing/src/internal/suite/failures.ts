/** Failing handlers: retries, dead letters, what waits for them and what does not. */
import { assert } from "@effect/vitest"
import * as Consumer from "@surety/core/Consumer"
import * as Transport from "@surety/core/Transport"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { eventsOf, Failed, message, messages, type TestTopic } from "./model.ts"
import { all, forEach, lossless, type Scenario } from "./scenario.ts"

const fail = Effect.fail(new Failed({ detail: "as the test wants it" }))

/** Fails the runs of one id until so many have failed. */
const failTimes = (id: string, times: number) => {
  let failures = 0
  return (run: { readonly id: string }) => (run.id === id && failures++ < times ? fail : Effect.void)
}

const often = Consumer.retry<Failed>(Schedule.recurs(5))

export const failures: ReadonlyArray<Scenario> = [
  ...forEach(lossless, "a failed attempt is repeated by the schedule, and counted", (harness, guarantee) =>
    Effect.gen(function* () {
      const node = yield* harness.start
      const topic = harness.topic(guarantee)
      yield* harness.consume(node, topic, { batchSize: 1, rules: often, handle: failTimes("m-2", 3) })
      yield* harness.publish(node, topic, messages(4, 1))
      yield* harness.handled(4, topic)
      const history = yield* harness.verify
      const starts = eventsOf(history, "Start", topic)
      assert.deepStrictEqual(
        starts.filter(({ id }) => id === "m-2").map(({ attempt }) => attempt),
        [1, 2, 3, 4]
      )
      // What waits behind it in its key starts after it, once (invariant 11).
      assert.deepStrictEqual(
        starts.map(({ id }) => id),
        ["m-1", "m-2", "m-2", "m-2", "m-2", "m-3", "m-4"]
      )
    })
  ),

  ...forEach(lossless, "a key that waits for a retry holds no other key back", (harness, guarantee) =>
    Effect.gen(function* () {
      const node = yield* harness.start
      const topic = harness.topic(guarantee, { partitions: 1 })
      const others = Deferred.makeUnsafe<void>()
      let failed = false
      yield* harness.consume(node, topic, {
        rules: Consumer.retry(Schedule.recurs(100_000).pipe(Schedule.addDelay(() => Effect.succeed("10 millis")))),
        handle: ({ id }) =>
          Effect.suspend(() => {
            if (id !== "slow-1") return Effect.void
            // It fails until all others of its partition are done: were they to wait for it, this would not end.
            if (!failed || !Deferred.isDoneUnsafe(others)) {
              failed = true
              return fail
            }
            return Effect.void
          })
      })
      yield* harness.publish(node, topic, [message("slow-1", "slow"), message("slow-2", "slow"), ...messages(20, 4)])
      yield* harness.handled(20, topic)
      assert.isFalse(eventsOf(harness.history.events, "Start").some(({ id }) => id === "slow-2"))
      yield* Deferred.succeed(others, undefined)
      yield* harness.handled(22, topic)
      yield* harness.verify
    })
  ),

  ...forEach(all, "what outlives its retries is dead-lettered whole, and blocks nothing", (harness, guarantee) =>
    Effect.gen(function* () {
      const node = yield* harness.start
      const topic = harness.topic(guarantee)
      const tries = guarantee === "at-most-once" ? 1 : 3
      yield* harness.consume(node, topic, {
        ...(guarantee === "at-most-once" ? {} : { rules: Consumer.retry(Schedule.recurs(tries - 1)) }),
        handle: ({ id }) => (id === "m-2" ? fail : Effect.void)
      })
      const [first, second, ...rest] = messages(6, 1)
      const headers = { traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "x-é": "\u0000" }
      yield* harness.publish(node, topic, [first!, second!], headers)
      yield* harness.publish(node, topic, rest)
      yield* harness.handled(5, topic)
      yield* harness.verify
      const [letter, ...more] = yield* harness.deadLetters(topic)
      assert.deepStrictEqual(more, [])
      assert.strictEqual(letter!.record.id, "m-2")
      assert.strictEqual(letter!.record.key, "key-0")
      assert.deepStrictEqual(JSON.parse(new TextDecoder().decode(letter!.record.payload)), second)
      assert.deepStrictEqual(letter!.record.headers, { "content-type": "application/json", ...headers })
      assert.strictEqual(letter!.attempts, tries)
      assert.strictEqual(letter!.failure.tag, "Failed")
      assert.match(letter!.failure.cause, /Failed/)
      assert.isAtLeast(letter!.time, letter!.record.time)
    })
  ),

  ...forEach(all, "an undecodable payload is dead-lettered without an attempt, with its bytes", (harness, guarantee) =>
    Effect.gen(function* () {
      const node = yield* harness.start
      const topic: TestTopic = harness.topic(guarantee)
      const transport = yield* node.run(Transport.Transport)
      const bad = (id: string, payload: Uint8Array) => ({ id, key: "k", headers: { a: "b" }, time: 5, payload })
      const sent = [
        bad("no-json", Uint8Array.of(0xff, 0x00, 0xfe)),
        bad("no-payload", new Uint8Array()),
        bad("other-schema", new TextEncoder().encode(`{"id":7}`))
      ]
      yield* harness.publish(node, topic, [message("before", "k")])
      for (const [index, { id }] of sent.entries()) {
        yield* harness.record(node, {
          _tag: "Publish",
          outcome: "ok",
          node: node.name,
          topic: topic.name,
          id,
          key: "k",
          call: harness.history.next,
          index,
          run: undefined,
          content: undefined
        })
      }
      yield* transport.publish({ name: topic.name, partitions: topic.partitions }, sent)
      yield* harness.publish(node, topic, [message("after", "k")])
      yield* harness.consume(node, topic)
      yield* harness.handled(2, topic)
      const history = yield* harness.verify
      assert.deepStrictEqual(
        eventsOf(history, "Start", topic).map(({ id }) => id),
        ["before", "after"]
      )
      const letters = yield* harness.deadLetters(topic)
      assert.deepStrictEqual(
        letters.map(({ attempts, failure, record }) => [record.id, attempts, failure.tag, [...record.payload]]),
        sent.map(({ id, payload }) => [id, 0, "DecodeFailed", [...payload]])
      )
      assert.deepStrictEqual(letters[0]!.record.headers, { a: "b" })
    })
  ),

  ...forEach(
    lossless,
    "a handler that dies, or takes too long, has failed; the consumer goes on",
    (harness, guarantee) =>
      Effect.gen(function* () {
        const node = yield* harness.start
        const topic = harness.topic(guarantee)
        let dies = 2
        let hangs = 1
        yield* harness.consume(node, topic, {
          batchSize: 1,
          interruptFails: true,
          handlerTimeout: "2 seconds",
          defectRetry: Schedule.recurs(4),
          handle: ({ id }) =>
            Effect.suspend(() => {
              if (id === "m-1" && dies-- > 0) throw new Error("thrown")
              if (id === "m-2" && hangs-- > 0) return Effect.never
              return id === "m-3" ? Effect.die("always") : Effect.void
            })
        })
        yield* harness.publish(node, topic, messages(4, 1))
        yield* harness.handled(3, topic)
        const history = yield* harness.verify
        const attemptsOf = (of: string) =>
          eventsOf(history, "Start", topic)
            .filter(({ id }) => id === of)
            .map(({ attempt }) => attempt)
        assert.deepStrictEqual(attemptsOf("m-1"), [1, 2, 3])
        assert.deepStrictEqual(attemptsOf("m-2"), [1, 2])
        assert.deepStrictEqual(attemptsOf("m-3"), [1, 2, 3, 4, 5])
        assert.deepStrictEqual(attemptsOf("m-4"), [1])
        assert.deepStrictEqual(
          (yield* harness.deadLetters(topic)).map(({ attempts, record }) => [record.id, attempts]),
          [["m-3", 5]]
        )
      })
  ),

  ...forEach(lossless, "what is discarded is settled, without effect", (harness, guarantee) =>
    Effect.gen(function* () {
      const node = yield* harness.start
      const topic = harness.topic(guarantee)
      yield* harness.consume(node, topic, {
        batchSize: 1,
        rules: (consumer) => consumer.pipe(Consumer.discard("Failed")),
        handle: ({ id }) => (id === "m-2" ? fail : Effect.void)
      })
      yield* harness.publish(node, topic, messages(4, 1))
      yield* harness.handled(3, topic)
      yield* harness.settled(topic)
      assert.deepStrictEqual(yield* harness.deadLetters(topic), [])
      assert.deepStrictEqual(
        eventsOf(harness.history.events, "End", topic)
          .filter(({ outcome }) => outcome === "ok")
          .map(({ id }) => id),
        ["m-1", "m-3", "m-4"]
      )
    })
  ),

  ...forEach(lossless, "a consumer told to stop leaves the message unsettled, for the next one", (harness, guarantee) =>
    Effect.gen(function* () {
      const node = yield* harness.start
      const topic = harness.topic(guarantee, { partitions: 1 })
      const first = yield* harness.consume(node, topic, {
        batchSize: 1,
        rules: (consumer) => consumer.pipe(Consumer.stop("Failed")),
        handle: ({ id }) => (id === "m-2" ? fail : Effect.void)
      })
      yield* harness.publish(node, topic, messages(4, 1))
      yield* harness.seen("the failure", (history) =>
        eventsOf(history, "End", topic).some(({ id, outcome }) => id === "m-2" && outcome === "fail")
      )
      yield* first.stop
      assert.deepStrictEqual(
        (yield* harness.progress(topic)).map(({ lag }) => lag),
        [3]
      )
      yield* harness.consume(node, topic)
      yield* harness.handled(4, topic)
      yield* harness.verify
    })
  ),

  ...forEach(all, "runs as many handlers as it may, and never two of one key", (harness, guarantee) =>
    Effect.gen(function* () {
      const node = yield* harness.start
      const topic = harness.topic(guarantee)
      const gate = Deferred.makeUnsafe<void>()
      const running = new Map<string, number>()
      let most = 0
      const twice: Array<string> = []
      yield* harness.consume(node, topic, {
        concurrency: 3,
        batchSize: 1,
        handle: ({ id, key }) =>
          Effect.suspend(() => {
            const same = (running.get(key!) ?? 0) + 1
            running.set(key!, same)
            if (same > 1) twice.push(id)
            most = Math.max(
              most,
              Array.from(running.values()).reduce((sum, count) => sum + count, 0)
            )
            return Effect.ensuring(
              Deferred.await(gate),
              Effect.sync(() => running.set(key!, running.get(key!)! - 1))
            )
          })
      })
      yield* harness.publish(node, topic, messages(24, 6))
      // No handler ends before three have started: were they to run one by one, this would not end.
      yield* harness.until(
        "three at once",
        Effect.sync(() => most === 3)
      )
      yield* Deferred.succeed(gate, undefined)
      yield* harness.handled(24, topic)
      yield* harness.verify
      assert.deepStrictEqual(twice, [])
      assert.strictEqual(most, 3)
    })
  )
]
