/** A holder that was away too long changes nothing when it comes back (invariant 10). */
import { assert } from "@effect/vitest"
import * as Inbox from "@surety/core/Inbox"
import * as Producer from "@surety/core/Producer"
import * as Transport from "@surety/core/Transport"
import type { TransportError } from "@surety/core/TransportError"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Harness } from "./harness.ts"
import { claimAll, eventsOf, messages, type TestNode, uniqueName } from "./model.ts"
import { forEach, lossless, type Scenario } from "./scenario.ts"

const isFenced = (error: TransportError) => error.reason._tag === "Fenced"

/** A topic of one partition, and what its holder has claimed of it: all. */
const claimedOf = Effect.fnUntraced(function* (harness: Harness, count: number) {
  const node = yield* harness.start
  const transport = yield* node.run(Transport.Transport)
  const topic = harness.topic("at-least-once", { partitions: 1 })
  yield* harness.publish(node, topic, messages(count, 1))
  const { next } = yield* transport.subscribe({
    topic: { name: topic.name, partitions: 1 },
    group: "group",
    startFrom: "earliest"
  })
  const assignment = yield* next
  return { assignment, claimed: yield* claimAll(assignment, count), topic, transport }
})

export const fencing: ReadonlyArray<Scenario> = [
  {
    name: "a stale holder's operations are refused, and change nothing",
    run: (harness) =>
      Effect.gen(function* () {
        const one = yield* harness.start
        const two = yield* harness.start
        const topic = harness.topic("at-least-once", { partitions: 1 })
        const declaration = { name: topic.name, partitions: 1 }
        const group = "group"
        const join = (node: TestNode) =>
          node.keep(
            Effect.flatMap(Transport.Transport, (transport) =>
              transport.subscribe({ topic: declaration, group, startFrom: "earliest" })
            )
          )
        const transport = yield* two.run(Transport.Transport)
        yield* harness.publish(two, topic, messages(10, 1))
        const stale = yield* (yield* join(one)).next
        const claimed = yield* claimAll(stale, 10)
        yield* stale.settle(claimed[2]!.offset)
        yield* one.disconnect("frozen")
        const taking = yield* Effect.forkScoped(Effect.flatMap(join(two), ({ next }) => next))
        yield* harness.until(
          "the partition is taken over",
          Effect.sync(() => taking.pollUnsafe() !== undefined)
        )
        const holder = yield* Effect.flatten(Effect.sync(() => taking.pollUnsafe()!))
        assert.isAbove(holder.epoch, stale.epoch)
        assert.strictEqual(holder.settled, claimed[2]!.offset)
        const { claimsAhead = 0 } = transport.characteristics
        assert.isAtLeast(holder.suspectUntil, claimed[9]!.offset)
        assert.isAtMost(holder.suspectUntil, claimed[9]!.offset + claimsAhead)
        const [again] = yield* holder.claim(1)
        yield* holder.settle(again!.offset)
        yield* holder.count(claimed[4]!.offset, { claims: 1, failures: 0 })
        yield* one.reconnect
        // There is something to claim: a claim may wait where there is nothing.
        yield* harness.publish(two, topic, messages(1, 1, "more"))
        const letter = {
          topic: topic.name,
          group,
          record: claimed[9]!,
          failure: { tag: "Stale", message: "", cause: "" },
          attempts: 1,
          time: 1
        }
        const refused = {
          settle: stale.settle(claimed[9]!.offset),
          fence: stale.fence,
          claim: stale.claim(1),
          count: stale.count(claimed[4]!.offset, { claims: 5, failures: 5 }),
          deadLetter: stale.deadLetter([letter])
        }
        for (const [name, operation] of Object.entries(refused)) {
          const error = yield* Effect.flip(operation as Effect.Effect<unknown, TransportError>)
          assert.isTrue(isFenced(error), `${name}: ${error.message}`)
        }
        const revoked = yield* Effect.forkScoped(Effect.flip(stale.revoked))
        yield* harness.until(
          "the stale holder is told",
          Effect.sync(() => revoked.pollUnsafe() !== undefined)
        )
        assert.isTrue(isFenced(yield* Effect.flatten(Effect.sync(() => revoked.pollUnsafe()!))))
        // What is no longer its own it cannot give back either.
        yield* stale.release
        const [progress] = yield* transport.progress(topic.name, group)
        assert.strictEqual(progress!.settled, again!.offset)
        assert.strictEqual(progress!.lag, 7)
        assert.deepStrictEqual(yield* harness.deadLetters(topic), [])
        const untouched = (yield* holder.claim(10)).find(({ offset }) => offset === claimed[4]!.offset)
        assert.deepStrictEqual(untouched?.attempts, { claims: 1, failures: 0 })
        // The holder's lease has outlived all that.
        yield* holder.settle(claimed[9]!.offset)
      })
  },

  {
    name: "progress never moves back",
    run: (harness) =>
      Effect.gen(function* () {
        const { assignment, claimed, topic, transport } = yield* claimedOf(harness, 5)
        yield* assignment.settle(claimed[3]!.offset)
        yield* assignment.settle(claimed[1]!.offset)
        const [progress] = yield* transport.progress(topic.name, "group")
        assert.strictEqual(progress!.settled, claimed[3]!.offset)
        assert.strictEqual(progress!.lag, 1)
      })
  },

  {
    name: "attempts that are counted after the progress has passed their record are not kept",
    run: (harness) =>
      Effect.gen(function* () {
        const { assignment, claimed, topic } = yield* claimedOf(harness, 5)
        yield* assignment.settle(claimed[3]!.offset)
        yield* assignment.count(claimed[1]!.offset, { claims: 1, failures: 0 })
        yield* assignment.count(claimed[4]!.offset, { claims: 1, failures: 0 })
        const kept = yield* harness.kept(topic)
        if (Option.isNone(kept)) return yield* harness.skip("the backend does not tell what a group keeps in the store")
        // Invariant 22.
        assert.strictEqual(kept.value.attempts, 1)
      })
  },

  ...(["frozen", "lost"] as const).flatMap((how) =>
    forEach(
      lossless,
      `a handler whose connections were ${how} while another took over settles nothing`,
      (harness, guarantee) =>
        Effect.gen(function* () {
          const one = yield* harness.start
          const topic = harness.topic(guarantee, { partitions: 1 })
          const open = Deferred.makeUnsafe<void>()
          yield* harness.consume(one, topic, {
            batchSize: 4,
            handle: ({ id }) => (id === "m-3" ? Deferred.await(open) : Effect.void)
          })
          yield* harness.publish(one, topic, messages(8, 1))
          yield* harness.seen("the third run", (history) =>
            eventsOf(history, "Start", topic).some(({ id }) => id === "m-3")
          )
          yield* one.disconnect(how)
          const two = yield* harness.start
          yield* harness.consume(two, topic)
          yield* harness.seen("all are handled by the successor", (history) =>
            new Set(
              eventsOf(history, "End", topic)
                .filter(({ node }) => node === two.name)
                .map(({ id }) => id)
            ).has("m-8")
          )
          yield* harness.settled(topic)
          yield* one.reconnect
          yield* Deferred.succeed(open, undefined)
          yield* harness.seen("the end of the stale run", (history) => {
            const stale = eventsOf(history, "Start", topic).find(({ id, node }) => id === "m-3" && node === one.name)!
            return eventsOf(history, "End", topic).some(({ run }) => run === stale.run)
          })
          yield* harness.publish(two, topic, messages(4, 1, "after"))
          yield* harness.handled(12, topic)
          yield* harness.verify
          const [progress] = yield* harness.progress(topic)
          assert.strictEqual(progress!.lag, 0)
        })
    )
  ),

  {
    name: "a stale holder's open transaction aborts, with what was published in it",
    needsTransactions: true,
    run: (harness) =>
      Effect.gen(function* () {
        const one = yield* harness.start
        const two = yield* harness.start
        const transport = yield* one.run(Transport.Transport)
        const inbox = yield* one.run(Inbox.Inbox)
        const topic = { name: uniqueName("fenced"), partitions: 1 }
        const out = harness.topic("at-least-once", { partitions: 1 })
        yield* harness.consume(two, out, { group: "observer" })
        const stale = yield* (yield* transport.subscribe({ topic, group: "group", startFrom: "earliest" })).next
        const opened = Deferred.makeUnsafe<void>()
        const open = Deferred.makeUnsafe<void>()
        const holder = { topic: topic.name, group: "group", partition: 0, epoch: stale.epoch }
        const transaction = yield* Effect.forkScoped(
          inbox
            .transaction(
              holder,
              Effect.gen(function* () {
                yield* inbox.admit(holder, [{ id: "stale", outcome: "handled" }])
                yield* Producer.publishAll(out, messages(2, 1, "stale"))
                yield* Deferred.succeed(opened, undefined)
                yield* Deferred.await(open)
                yield* stale.fence
              })
            )
            .pipe(one.run)
        )
        yield* Deferred.await(opened)
        yield* one.disconnect("frozen")
        const next = yield* Effect.forkScoped(
          two.run(
            Effect.flatMap(Transport.Transport, ({ subscribe }) =>
              Effect.flatMap(subscribe({ topic, group: "group", startFrom: "earliest" }), ({ next }) => next)
            )
          )
        )
        yield* harness.until(
          "the partition is taken over",
          Effect.sync(() => next.pollUnsafe() !== undefined)
        )
        const { epoch } = yield* Effect.flatten(Effect.sync(() => next.pollUnsafe()!))
        yield* one.reconnect
        // The successor does not wait for the stale transaction: it was ended with the takeover.
        const theirs = yield* two.run(Inbox.Inbox)
        const successor = { ...holder, epoch }
        assert.deepStrictEqual(
          yield* theirs.transaction(successor, theirs.admit(successor, [{ id: "stale", outcome: "handled" }])),
          [true]
        )
        yield* Deferred.succeed(open, undefined)
        yield* harness.until(
          "the stale transaction ends",
          Effect.sync(() => transaction.pollUnsafe() !== undefined)
        )
        assert.strictEqual(transaction.pollUnsafe()!._tag, "Failure")
        yield* harness.publish(two, out, messages(1, 1, "mark"))
        yield* harness.handled(1, out, "observer")
        yield* harness.verify
        assert.deepStrictEqual(
          eventsOf(harness.history.events, "Start", out).map(({ id }) => id),
          ["mark-1"]
        )
      })
  },

  ...forEach(lossless, "a node that was away for less than its lease goes on", (harness, guarantee) =>
    Effect.gen(function* () {
      const one = yield* harness.start
      const two = yield* harness.start
      const topic = harness.topic(guarantee)
      yield* harness.consume(one, topic)
      yield* harness.publish(two, topic, messages(10, 5))
      yield* harness.handled(10, topic)
      yield* harness.settled(topic)
      yield* one.disconnect("frozen")
      yield* harness.publish(two, topic, messages(10, 5, "away"))
      yield* one.reconnect
      yield* harness.handled(20, topic)
      const history = yield* harness.verify
      const [first, ...others] = eventsOf(history, "Start", topic)
      assert.isTrue(others.every(({ epoch, node }) => epoch === first!.epoch && node === one.name))
    })
  )
]
