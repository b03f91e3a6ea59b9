/** Nodes that join, leave and crash. */
import { assert } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { Harness } from "./harness.ts"
import { eventsOf, message, messages, type Running } from "./model.ts"
import { all, forEach, lossless, type Scenario } from "./scenario.ts"

const hasEnded = (harness: Harness, id: string) =>
  eventsOf(harness.history.events, "End").some((end) => end.id === id && end.outcome === "ok")

/** A handler that ends its process. */
const kill = ({ on }: Running) => Effect.andThen(on.crash, Effect.never)

export const nodes: ReadonlyArray<Scenario> = [
  ...forEach(all, "partitions move between nodes that come and go while messages flow", (harness, guarantee) =>
    Effect.gen(function* () {
      const publisher = yield* harness.start
      const topic = harness.topic(guarantee, { partitions: 6 })
      let parts = 0
      const flow = Effect.suspend(() => harness.publish(publisher, topic, messages(9, 9, `part-${++parts}`)))
      const join = Effect.gen(function* () {
        const node = yield* harness.start
        const consumer = yield* harness.consume(node, topic, { concurrency: 2, batchSize: 4 })
        return { node, consumer }
      })
      const one = yield* join
      yield* flow
      const two = yield* join
      yield* harness.reached(two.node, topic)
      yield* Effect.all([one.consumer.stop, Effect.andThen(flow, flow)], { concurrency: 2 })
      const three = yield* join
      yield* harness.reached(three.node, topic)
      yield* Effect.all([two.node.stop, Effect.andThen(flow, flow)], { concurrency: 2 })
      yield* flow
      if (guarantee !== "at-most-once") {
        yield* harness.handled(eventsOf(harness.history.events, "Publish", topic).length, topic)
      }
      yield* harness.verify
    })
  ),

  ...forEach(lossless, "what a crashed node was handling is handled by another", (harness, guarantee) =>
    Effect.gen(function* () {
      const one = yield* harness.start
      const topic = harness.topic(guarantee)
      const out = harness.topic(guarantee)
      yield* harness.consume(one, topic, {
        batchSize: 4,
        handle: (run) =>
          Effect.andThen(
            // Its effects are written and its message is published when the process ends.
            guarantee === "exactly-once" ? run.emit(out, message(`out of ${run.id} by run ${run.run}`)) : Effect.void,
            run.id === "m-6" ? kill(run) : Effect.void
          )
      })
      yield* harness.publish(one, topic, messages(20, 1))
      yield* harness.seen("the crash", (history) => eventsOf(history, "Crash").length === 1)
      const two = yield* harness.start
      yield* harness.consume(two, out, { group: "observer" })
      yield* harness.consume(two, topic, {
        handle: (run) =>
          guarantee === "exactly-once" ? run.emit(out, message(`out of ${run.id} by run ${run.run}`)) : Effect.void
      })
      yield* harness.handled(20, topic)
      const history = yield* harness.verify
      const again = eventsOf(history, "Start", topic).filter(({ id }) => id === "m-6")
      assert.strictEqual(again[0]!.node, one.name)
      assert.strictEqual(again.at(-1)!.node, two.name)
      // Invariant 13: the crash is remembered.
      assert.isAbove(again.at(-1)!.attempt, again[0]!.attempt)
      assert.isAbove(again.at(-1)!.epoch, again[0]!.epoch)
      if (guarantee === "exactly-once") assert.strictEqual(eventsOf(history, "Start", out).length, 20)
    })
  ),

  ...forEach(
    lossless,
    "a message that ends its process reaches the dead letters within maxCrashes, and takes none with it",
    (harness, guarantee) =>
      Effect.gen(function* () {
        const maxCrashes = 2
        const topic = harness.topic(guarantee, { partitions: 1 })
        const publisher = yield* harness.start
        yield* harness.publish(publisher, topic, messages(8, 4))
        const crashes = () => eventsOf(harness.history.events, "Crash").length
        const done = Effect.map(
          Effect.catch(harness.progress(topic), () => Effect.succeed([])),
          (progress) => progress.length > 0 && progress.every(({ lag }) => lag === 0)
        )
        while (true) {
          const before = crashes()
          const node = yield* harness.start
          yield* harness.consume(node, topic, {
            maxCrashes,
            batchSize: 8,
            handle: (run) => (run.id === "m-3" ? kill(run) : Effect.void)
          })
          yield* harness.until(
            "another crash, or the end",
            Effect.suspend(() => (crashes() > before ? Effect.succeed(true) : done))
          )
          if (crashes() === before) break
          assert.isAtMost(crashes(), maxCrashes + 1)
        }
        yield* harness.verify
        const letters = yield* harness.deadLetters(topic)
        assert.deepStrictEqual(
          letters.map(({ failure, record }) => [record.id, failure.tag]),
          [["m-3", "Crashed"]]
        )
        assert.strictEqual(crashes(), maxCrashes + 1)
        for (const { id } of messages(8, 4)) if (id !== "m-3") assert.isTrue(hasEnded(harness, id), `${id} was handled`)
      })
  ),

  ...forEach(
    lossless,
    "a node that stops lets its handlers end, claims no more, and leaves nothing leased",
    (harness, guarantee) =>
      Effect.gen(function* () {
        const one = yield* harness.start
        const two = yield* harness.start
        const topic = harness.topic(guarantee, { partitions: 1 })
        const open = Deferred.makeUnsafe<void>()
        const first = yield* harness.consume(one, topic, {
          batchSize: 1,
          drainTimeout: "1 hour",
          handle: ({ id }) => (id === "m-1" ? Deferred.await(open) : Effect.void)
        })
        yield* harness.publish(one, topic, messages(6, 1))
        yield* harness.seen("the first run", (history) => eventsOf(history, "Start", topic).length === 1)
        const stopping = yield* Effect.forkScoped(first.stop)
        yield* harness.publish(two, topic, messages(2, 1, "late"))
        yield* Effect.yieldNow
        yield* Deferred.succeed(open, undefined)
        yield* harness.until(
          "the consumer has stopped",
          Effect.sync(() => stopping.pollUnsafe() !== undefined)
        )
        const atStop = eventsOf(harness.history.events, "End", topic)
        assert.isTrue(atStop.every(({ outcome }) => outcome === "ok"))
        // What ended is settled, and only that.
        const [progress] = yield* harness.progress(topic)
        assert.strictEqual(progress!.lag, 8 - atStop.length)
        yield* harness.consume(two, topic)
        yield* harness.handled(8, topic)
        const history = yield* harness.verify
        const starts = eventsOf(history, "Start", topic)
        assert.strictEqual(starts.length, 8)
        assert.isTrue(starts.every(({ attempt }) => attempt === 1))
      })
  ),

  ...forEach(lossless, "a handler that a shutdown interrupts has not made an attempt", (harness, guarantee) =>
    Effect.gen(function* () {
      const topic = harness.topic(guarantee, { partitions: 1 })
      const publisher = yield* harness.start
      yield* harness.publish(publisher, topic, messages(3, 1))
      let failed = false
      // The second message fails once, so that its later attempts are counted in the store, and then hangs.
      const handle = (run: Running) =>
        run.id !== "m-2"
          ? Effect.void
          : failed
            ? Effect.never
            : Effect.suspend(() => {
                failed = true
                return Effect.die("once")
              })
      for (const round of [1, 2, 3]) {
        const node = yield* harness.start
        yield* harness.consume(node, topic, {
          batchSize: 1,
          handle,
          drainTimeout: "10 millis",
          defectRetry: Schedule.recurs(9)
        })
        yield* harness.seen(
          "it hangs",
          (history) =>
            eventsOf(history, "Start", topic).filter(({ id, node: on }) => id === "m-2" && on === node.name).length ===
            (round === 1 ? 2 : 1)
        )
        yield* node.stop
      }
      const last = yield* harness.start
      yield* harness.consume(last, topic)
      yield* harness.handled(3, topic)
      const history = yield* harness.verify
      assert.deepStrictEqual(
        eventsOf(history, "Start", topic)
          .filter(({ id }) => id === "m-2")
          .map(({ attempt }) => attempt),
        [1, 2, 2, 2, 2]
      )
    })
  ),

  ...forEach(
    lossless,
    "a stopped node's partitions are served at once, without waiting for its lease",
    (harness, guarantee) =>
      Effect.gen(function* () {
        const one = yield* harness.start
        const two = yield* harness.start
        const topic = harness.topic(guarantee, { partitions: 2 })
        yield* harness.consume(one, topic)
        yield* harness.publish(one, topic, messages(8, 4))
        yield* harness.handled(8, topic)
        yield* harness.settled(topic)
        yield* one.stop
        const stopped = harness.history.next
        yield* harness.consume(two, topic)
        yield* harness.publish(two, topic, messages(8, 4, "after"))
        yield* harness.handled(16, topic)
        const history = yield* harness.verify
        const from = history.find(({ seq }) => seq >= stopped)!.time
        const to = Math.max(...eventsOf(history, "End", topic).map(({ time }) => time))
        assert.isBelow(to - from, harness.leaseMillis)
      })
  ),

  ...forEach(lossless, "a consumer whose connections are lost stops all the same", (harness, guarantee) =>
    Effect.gen(function* () {
      const one = yield* harness.start
      const topic = harness.topic(guarantee, { partitions: 1 })
      const open = Deferred.makeUnsafe<void>()
      const consumer = yield* harness.consume(one, topic, { batchSize: 1, handle: () => Deferred.await(open) })
      yield* harness.publish(one, topic, messages(3, 3))
      yield* harness.seen("a run", (history) => eventsOf(history, "Start", topic).length === 1)
      yield* one.disconnect("lost")
      yield* Deferred.succeed(open, undefined)
      yield* harness.seen("its end", (history) => eventsOf(history, "End", topic).length > 0)
      yield* consumer.stop
      const two = yield* harness.start
      yield* harness.consume(two, topic)
      yield* harness.handled(3, topic)
      yield* harness.verify
    })
  )
]
