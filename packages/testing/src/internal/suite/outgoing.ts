/** What leaves: the messages of units that committed, and what was acknowledged (invariants 8 and 16). */
import { assert } from "@effect/vitest"
import * as Consumer from "@surety/core/Consumer"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { eventsOf, Failed, message, messages, type Running } from "./model.ts"
import { outcomeOf, recordPublish } from "./publishing.ts"
import { forEach, lossless, type Scenario } from "./scenario.ts"

const fail = Effect.fail(new Failed({ detail: "as the test wants it" }))

const outOf = ({ id, run }: Running) => message(`out of ${id} by run ${run}`)
const sourceOf = ({ id }: { readonly id: string }) => id.split(" ")[2]!

export const outgoing: ReadonlyArray<Scenario> = [
  ...forEach(
    ["exactly-once"],
    "units that fail, crash and repeat publish what they commit, once",
    (harness, guarantee) =>
      Effect.gen(function* () {
        const topic = harness.topic(guarantee)
        const out = harness.topic("at-least-once", { partitions: 2 })
        const failures = new Set<string>()
        let killed = false
        const handle = (run: Running) =>
          Effect.gen(function* () {
            yield* run.emit(out, outOf(run))
            const number = Number(run.id.slice(2))
            if (number % 5 === 1 && !failures.has(run.id)) {
              failures.add(run.id)
              return yield* fail
            }
            if (number === 7 && !killed) {
              killed = true
              return yield* Effect.andThen(run.on.crash, Effect.never)
            }
          })
        const observer = yield* harness.start
        yield* harness.consume(observer, out, { group: "observer" })
        yield* harness.publish(observer, topic, messages(24, 6))
        for (const _ of ["crashes", "goes on"]) {
          const node = yield* harness.start
          yield* harness.consume(node, topic, {
            batchSize: 4,
            concurrency: 2,
            handle,
            rules: Consumer.retry<Failed>(Schedule.recurs(3))
          })
          if (!killed) yield* harness.seen("the crash", (history) => eventsOf(history, "Crash").length === 1)
        }
        yield* harness.handled(24, topic)
        yield* harness.handled(24, out, "observer")
        const history = yield* harness.verify
        assert.deepStrictEqual(
          eventsOf(history, "Start", out).map(sourceOf).toSorted(),
          messages(24, 6)
            .map(({ id }) => id)
            .toSorted()
        )
      })
  ),

  ...forEach(["exactly-once"], "a unit that is taken over in its middle publishes nothing", (harness, guarantee) =>
    Effect.gen(function* () {
      const one = yield* harness.start
      const two = yield* harness.start
      const topic = harness.topic(guarantee, { partitions: 1 })
      const out = harness.topic("at-least-once", { partitions: 1 })
      const open = Deferred.makeUnsafe<void>()
      yield* harness.consume(two, out, { group: "observer" })
      yield* harness.consume(one, topic, {
        batchSize: 1,
        handle: (run) =>
          Effect.andThen(run.emit(out, outOf(run)), run.id === "m-2" ? Deferred.await(open) : Effect.void)
      })
      yield* harness.publish(two, topic, messages(3, 1))
      yield* harness.seen("the second run", (history) =>
        eventsOf(history, "Publish", out).some((publish) => sourceOf(publish) === "m-2")
      )
      yield* one.disconnect("frozen")
      yield* harness.consume(two, topic, { batchSize: 1, handle: (run) => run.emit(out, outOf(run)) })
      yield* harness.handled(3, topic)
      yield* harness.settled(topic)
      yield* one.reconnect
      yield* Deferred.succeed(open, undefined)
      yield* harness.seen("the end of the stale run", (history) => {
        const stale = eventsOf(history, "Start", topic).find(({ id, node }) => id === "m-2" && node === one.name)!
        return eventsOf(history, "End", topic).some(({ run }) => run === stale.run)
      })
      yield* harness.publish(two, topic, messages(1, 1, "after"))
      yield* harness.handled(4, topic)
      yield* harness.handled(4, out, "observer")
      const history = yield* harness.verify
      assert.deepStrictEqual(eventsOf(history, "Start", out).map(sourceOf), ["m-1", "m-2", "m-3", "after-1"])
    })
  ),

  ...forEach(lossless, "what was acknowledged survives the end of its publisher at that moment", (harness, guarantee) =>
    Effect.gen(function* () {
      const reader = yield* harness.start
      const topic = harness.topic(guarantee)
      yield* harness.consume(reader, topic)
      const answers = new Map<string, "ok" | "fail" | "info">()
      for (const round of [1, 2, 3]) {
        const publisher = yield* harness.start
        const sent = messages(40, 8, `round-${round}`)
        const acknowledged = () =>
          eventsOf(harness.history.events, "Publish", topic).filter(({ node }) => node === publisher.name).length
        yield* Effect.forkScoped(
          Effect.forEach(
            sent,
            (each) =>
              Effect.gen(function* () {
                if (publisher.state !== "up") return
                answers.set(each.id, outcomeOf(yield* Effect.exit(harness.publish(publisher, topic, [each]))))
                // In the same step as an acknowledgement, with others under way.
                if (publisher.state === "up" && acknowledged() >= 5) yield* publisher.crash
              }),
            { concurrency: 8, discard: true }
          )
        )
        yield* harness.seen("the crash", (history) => eventsOf(history, "Crash").length === round)
        const reported = new Set(eventsOf(harness.history.events, "Publish", topic).map(({ id }) => id))
        // What its process cannot tell any more.
        yield* recordPublish(
          harness,
          reader,
          topic,
          sent.filter(({ id }) => !reported.has(id)),
          { call: harness.history.next },
          "info"
        )
      }
      yield* harness.publish(reader, topic, [message("last", "k")])
      yield* harness.seen("the last one", (history) =>
        eventsOf(history, "End", topic).some(({ id, outcome }) => id === "last" && outcome === "ok")
      )
      const history = yield* harness.verify
      const acknowledged = eventsOf(history, "Publish", topic).filter(({ outcome }) => outcome === "ok")
      assert.isAtLeast(acknowledged.length, 16)
      // A publisher that ends may say so to those that wait, or nothing at all: what it says is true.
      const handled = new Set(eventsOf(history, "End", topic).map(({ id }) => id))
      for (const [id, answer] of answers) {
        if (answer !== "info")
          assert.strictEqual(handled.has(id), answer === "ok", `${id} was answered with "${answer}"`)
      }
    })
  )
]
