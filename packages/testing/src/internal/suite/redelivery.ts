/** Retries that are due late: kept in the store, not in the process. */
import { assert } from "@effect/vitest"
import * as Consumer from "@surety/core/Consumer"
import * as Inbox from "@surety/core/Inbox"
import * as Transport from "@surety/core/Transport"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { Harness } from "./harness.ts"
import { claimAll, eventsOf, Failed, message, messages, type TestNode, uniqueName } from "./model.ts"
import { forEach, lossless, type Scenario } from "./scenario.ts"

const fail = Effect.fail(new Failed({ detail: "as the test wants it" }))

/** A partition of a topic with ten records, all claimed; skips the test where the transport keeps no records aside. */
const claimTen = Effect.fnUntraced(function* (harness: Harness, node: TestNode) {
  const transport = yield* node.run(Transport.Transport)
  const topic = { name: uniqueName("parking"), partitions: 1 }
  yield* transport.publish(
    topic,
    messages(10, 2).map(({ id, key }) => ({
      id,
      key: key!,
      headers: { of: id },
      time: 7,
      payload: new TextEncoder().encode(id)
    }))
  )
  const join = Effect.fnUntraced(function* (on: TestNode) {
    const { next } = yield* on.keep(
      Effect.flatMap(Transport.Transport, ({ subscribe }) =>
        subscribe({ topic, group: "group", startFrom: "earliest" })
      )
    )
    const taking = yield* Effect.forkScoped(next)
    yield* harness.until(
      `${on.name} has the partition`,
      Effect.sync(() => taking.pollUnsafe() !== undefined)
    )
    const assignment = yield* Effect.flatten(Effect.sync(() => taking.pollUnsafe()!))
    const { redelivery } = assignment
    if (redelivery === undefined) {
      return yield* harness.skip(`the ${transport.characteristics.name} transport keeps no records aside`)
    }
    return { ...assignment, redelivery }
  })
  const first = yield* join(node)
  const claimed = yield* claimAll(first, 10)
  const progress = (on: TestNode) =>
    on.run(Effect.flatMap(Transport.Transport, (transport) => transport.progress(topic.name, "group")))
  return { topic, join, first, claimed, progress }
})

const aside = (record: Transport.ClaimedRecord, dueAt: number | undefined): Transport.RecordToPark => ({
  offset: record.offset,
  key: record.key,
  dueAt,
  record
})

export const redelivery: ReadonlyArray<Scenario> = [
  {
    name: "what is kept aside is found by the next holder, whole, with its attempts and when it is due",
    run: (harness) =>
      Effect.gen(function* () {
        const one = yield* harness.start
        const two = yield* harness.start
        const { claimed, first, join, progress } = yield* claimTen(harness, one)
        const [a, b, c] = [claimed[1]!, claimed[3]!, claimed[5]!]
        const last = claimed[9]!.offset
        yield* first.count(a.offset, { claims: 1, failures: 1 })
        const due = 1_800_000_000_123
        yield* first.redelivery.park([aside(a, due), aside(b, undefined), aside(c, undefined)])
        yield* first.settle(last)
        // Parked again: due at another time, and still there once.
        yield* first.redelivery.park([aside(a, due + 1)])
        assert.deepStrictEqual(yield* progress(one), [{ partition: 0, settled: last, lag: 3, parked: 3 }])
        yield* one.crash
        const next = yield* join(two)
        assert.strictEqual(next.settled, last)
        assert.deepStrictEqual(yield* next.redelivery.list(0, 2), [
          { offset: a.offset, key: a.key, dueAt: due + 1 },
          { offset: b.offset, key: b.key, dueAt: undefined }
        ])
        assert.deepStrictEqual(
          (yield* next.redelivery.list(b.offset, 9)).map(({ offset }) => offset),
          [c.offset]
        )
        const read = yield* next.redelivery.read([a.offset, c.offset])
        assert.deepStrictEqual(
          read.map(({ attempts, payload, ...record }) => ({ ...record, payload: new TextDecoder().decode(payload) })),
          [a, c].map(({ attempts, payload, ...record }) => ({ ...record, payload: new TextDecoder().decode(payload) }))
        )
        assert.deepStrictEqual(
          read.map(({ attempts }) => attempts),
          [{ claims: 1, failures: 1 }, undefined]
        )
        // Its attempts are counted on, although the cursor has passed it; one that is repeated counts once.
        for (let i = 0; i < 2; i++) yield* next.count(a.offset, { claims: 2, failures: 1 })
        const [counted] = yield* next.redelivery.read([a.offset])
        assert.deepStrictEqual(counted!.attempts, { claims: 2, failures: 1 })
        yield* next.redelivery.settle([a.offset, b.offset], [])
        assert.deepStrictEqual(yield* progress(two), [{ partition: 0, settled: last, lag: 1, parked: 1 }])
        assert.deepStrictEqual(
          (yield* next.redelivery.list(0, 9)).map(({ offset }) => offset),
          [c.offset]
        )
      })
  },

  {
    name: "a stale holder neither keeps records aside nor forgets them",
    run: (harness) =>
      Effect.gen(function* () {
        const one = yield* harness.start
        const two = yield* harness.start
        const { claimed, first, join } = yield* claimTen(harness, one)
        yield* first.redelivery.park([aside(claimed[0]!, 5)])
        yield* one.disconnect("frozen")
        const next = yield* join(two)
        const before = yield* next.redelivery.list(0, 9)
        yield* one.reconnect
        for (const operation of [
          first.redelivery.park([aside(claimed[1]!, 6)]),
          first.redelivery.park([aside(claimed[0]!, 7)]),
          first.redelivery.settle([claimed[0]!.offset], [])
        ]) {
          assert.strictEqual((yield* Effect.flip(operation)).reason._tag, "Fenced")
        }
        assert.deepStrictEqual(yield* next.redelivery.list(0, 9), before)
      })
  },

  {
    name: "what is kept aside in a transaction is kept if and only if it commits",
    needsTransactions: true,
    run: (harness) =>
      Effect.gen(function* () {
        const node = yield* harness.start
        const inbox = yield* node.run(Inbox.Inbox)
        const { claimed, first, progress, topic } = yield* claimTen(harness, node)
        const holder = { topic: topic.name, group: "group", partition: 0, epoch: first.epoch }
        const [a, b] = claimed
        const parked = Effect.map(first.redelivery.list(0, 9), (records) => records.map(({ offset }) => offset))
        const park = (record: Transport.ClaimedRecord) => first.redelivery.park([aside(record, 5)])
        yield* Effect.flip(inbox.transaction(holder, Effect.andThen(park(a!), Effect.fail("rolls back"))))
        assert.deepStrictEqual(yield* parked, [])
        yield* inbox.transaction(holder, Effect.andThen(park(b!), first.settle(b!.offset)))
        assert.deepStrictEqual(yield* parked, [b!.offset])
        yield* Effect.flip(
          inbox.transaction(holder, Effect.andThen(first.redelivery.settle([b!.offset], []), Effect.fail("rolls back")))
        )
        assert.deepStrictEqual(yield* parked, [b!.offset])
        yield* inbox.transaction(holder, first.redelivery.settle([b!.offset], []))
        assert.deepStrictEqual(yield* progress(node), [{ partition: 0, settled: b!.offset, lag: 8, parked: 0 }])
      })
  },

  ...forEach(
    lossless,
    "a retry that is due late survives its process, and nothing else is repeated",
    (harness, guarantee) =>
      Effect.gen(function* () {
        const one = yield* harness.start
        yield* claimTen(harness, one)
        const delay = 1.2 * harness.leaseMillis
        const topic = harness.topic(guarantee, { partitions: 1 })
        const options = {
          redeliverAfter: "20 millis",
          rules: Consumer.retry<Failed>(Schedule.spaced(delay)),
          handle: ({ attempt, id }: { readonly attempt: number; readonly id: string }) =>
            id === "slow-1" && attempt === 1 ? fail : Effect.void
        } as const
        yield* harness.consume(one, topic, { ...options, batchSize: 4 })
        yield* harness.publish(one, topic, [message("slow-1", "slow"), message("slow-2", "slow"), ...messages(8, 3)])
        yield* harness.handled(8, topic)
        yield* harness.publish(one, topic, [message("slow-3", "slow"), ...messages(4, 3, "later")])
        yield* harness.handled(12, topic)
        yield* harness.until(
          "the slow key is kept aside, and everything else is settled",
          Effect.map(harness.progress(topic), ([partition]) => partition!.parked === 3 && partition!.lag === 3)
        )
        yield* one.crash
        const two = yield* harness.start
        yield* harness.consume(two, topic, { ...options, batchSize: 4 })
        yield* harness.publish(two, topic, [message("slow-4", "slow")])
        yield* harness.handled(16, topic)
        const history = yield* harness.verify
        const starts = eventsOf(history, "Start", topic)
        const slow = starts.filter(({ key }) => key === "slow")
        assert.deepStrictEqual(
          slow.filter(({ node }) => node === two.name).map(({ attempt, id }) => [id, attempt]),
          [
            ["slow-1", 2],
            ["slow-2", 1],
            ["slow-3", 1],
            ["slow-4", 1]
          ]
        )
        const failure = eventsOf(history, "End", topic).find(({ outcome }) => outcome === "fail")!
        assert.isAtLeast(slow.find(({ attempt }) => attempt === 2)!.time, failure.time + delay - 1)
        assert.deepStrictEqual(
          starts.filter(({ key, node }) => key !== "slow" && node === two.name),
          []
        )
      })
  ),

  ...forEach(
    lossless,
    "what was kept aside and outlives its retries is dead-lettered, and frees its key",
    (harness, guarantee) =>
      Effect.gen(function* () {
        const node = yield* harness.start
        yield* claimTen(harness, node)
        const topic = harness.topic(guarantee)
        yield* harness.consume(node, topic, {
          batchSize: 4,
          redeliverAfter: "20 millis",
          rules: Consumer.retry<Failed>(Schedule.spaced("100 millis").pipe(Schedule.upTo({ times: 2 }))),
          handle: ({ id }) => (id === "bad" ? fail : Effect.void)
        })
        const headers = { "x-é": "\u0000" }
        yield* harness.publish(node, topic, [message("bad", "k", "'"), message("behind", "k")], headers)
        yield* harness.publish(node, topic, messages(6, 6))
        yield* harness.handled(7, topic)
        yield* harness.verify
        const letters = yield* harness.deadLetters(topic)
        assert.deepStrictEqual(
          letters.map(({ attempts, record }) => [record.id, attempts, record.headers]),
          [["bad", 3, { "content-type": "application/json", ...headers }]]
        )
        assert.deepStrictEqual(
          (yield* harness.progress(topic)).filter(({ lag, parked }) => lag > 0 || parked > 0),
          []
        )
      })
  )
]
