/** That everything has its turn, and ends (invariants 19 and 20). */
import { assert } from "@effect/vitest"
import * as Consumer from "@surety/core/Consumer"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { eventsOf, Failed, type Message, message, messages } from "./model.ts"
import { forEach, lossless, type Scenario } from "./scenario.ts"

const fail = Effect.fail(new Failed({ detail: "as the test wants it" }))

export const fairness: ReadonlyArray<Scenario> = [
  ...forEach(lossless, "a hot key, a failing key and a parked key starve no other", (harness, guarantee) =>
    Effect.gen(function* () {
      const node = yield* harness.start
      const topic = harness.topic(guarantee, { partitions: 1 })
      const cold = Deferred.makeUnsafe<void>()
      // 60 of one key, 2 that fail until the others are done, 3 behind one that is due later, and 20 keys of 2 each.
      const of = (count: number, key: string) =>
        Array.from({ length: count }, (_, index) => message(`${key}-${index + 1}`, key))
      const colds = messages(40, 20, "cold")
      const sent: Array<Message> = [...of(2, "failing"), ...of(3, "parked")]
      for (const [index, each] of of(60, "hot").entries()) sent.push(each, ...colds.slice(index, index + 1))
      yield* harness.consume(node, topic, {
        prefetch: 12,
        concurrency: 2,
        batchSize: 4,
        redeliverAfter: "100 millis",
        rules: (consumer) =>
          consumer.pipe(
            Consumer.retry<Failed>(Schedule.recurs(100_000).pipe(Schedule.addDelay(() => Effect.succeed("10 millis"))))
          ),
        handle: ({ attempt, id }) =>
          Effect.suspend(() => {
            if (id === "failing-1" && !Deferred.isDoneUnsafe(cold)) return fail
            if (id === "parked-1" && attempt === 1) return Consumer.retryAfter("400 millis")
            // In memory nothing waits: without this, a handler's fiber would go on with the next messages for as long as it may.
            return Effect.yieldNow
          })
      })
      yield* harness.publish(node, topic, sent)
      yield* harness.seen("the others", (history) =>
        colds.every(({ id }) => eventsOf(history, "End", topic).some((end) => end.id === id && end.outcome === "ok"))
      )
      yield* Deferred.succeed(cold, undefined)
      yield* harness.handled(sent.length, topic)
      yield* harness.verify
    })
  ),

  ...forEach(lossless, "after faults have stopped everything is settled within a bound", (harness, guarantee) =>
    Effect.gen(function* () {
      const topic = harness.topic(guarantee)
      const publisher = yield* harness.start
      let failing = true
      const join = Effect.gen(function* () {
        const node = yield* harness.start
        yield* harness.consume(node, topic, {
          concurrency: 2,
          batchSize: 4,
          maxCrashes: 9,
          rules: Consumer.retry<Failed>(
            Schedule.recurs(1000).pipe(Schedule.addDelay(() => Effect.succeed("50 millis")))
          ),
          handle: ({ id }) => (failing && id.endsWith("-3") ? fail : Effect.void)
        })
        return node
      })
      const [one, two, three] = [yield* join, yield* join, yield* join]
      yield* harness.publish(publisher, topic, messages(20, 10, "first"))
      yield* harness.seen("work", (history) => eventsOf(history, "Start", topic).length > 5)
      yield* one.disconnect("frozen")
      yield* harness.publish(publisher, topic, messages(20, 10, "second"))
      yield* two.crash
      yield* three.disconnect("lost")
      yield* harness.publish(publisher, topic, messages(20, 10, "third"))
      yield* three.reconnect
      yield* one.reconnect
      failing = false
      yield* harness.calm(harness.boundMillis)
      yield* harness.handled(60, topic)
      const history = yield* harness.verify
      assert.strictEqual(eventsOf(history, "Calm").length, 1)
    })
  )
]
