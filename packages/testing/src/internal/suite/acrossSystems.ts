/** What a transport needs where another store keeps the progress of a group, or publishes through a relay. */
import { assert } from "@effect/vitest"
import * as Transport from "@surety/core/Transport"
import * as Effect from "effect/Effect"
import type { Harness } from "./harness.ts"
import { claimAll, type TestNode, uniqueName } from "./model.ts"
import type { Scenario } from "./scenario.ts"

const record = (id: string) => ({ id, key: undefined, headers: {}, time: 7, payload: new TextEncoder().encode(id) })

const joinAlone = Effect.fnUntraced(function* (harness: Harness, node: TestNode, topic: Transport.TopicDeclaration) {
  const { next } = yield* node.keep(
    Effect.flatMap(Transport.Transport, ({ subscribe }) => subscribe({ topic, group: "group", startFrom: "earliest" }))
  )
  const taking = yield* Effect.forkScoped(next)
  yield* harness.until(
    `${node.name} has the partition`,
    Effect.sync(() => taking.pollUnsafe() !== undefined)
  )
  return yield* Effect.flatten(Effect.sync(() => taking.pollUnsafe()!))
})

export const acrossSystems: ReadonlyArray<Scenario> = [
  {
    name: "an assignment goes on where it is told, whatever was settled, and says where it cannot",
    run: (harness) =>
      Effect.gen(function* () {
        const one = yield* harness.start
        const transport = yield* one.run(Transport.Transport)
        const topic = { name: uniqueName("seeking"), partitions: 1 }
        yield* transport.publish(topic, ["a", "b", "c", "d"].map(record))
        const first = yield* joinAlone(harness, one, topic)
        const offsets = (yield* claimAll(first, 4)).map(({ offset }) => offset)
        yield* first.settle(offsets[3]!)
        yield* first.release
        yield* one.crash
        const two = yield* harness.start
        const next = yield* joinAlone(harness, two, topic)
        assert.strictEqual(next.settled, offsets[3])
        // Beyond the end: the topic was emptied, or made anew, and what comes would be skipped.
        const { reason } = yield* Effect.flip(next.seek(offsets[3]! + 1000))
        assert.deepInclude(reason, { _tag: "RecordsGone", settled: offsets[3]! + 1000, partition: 0 })
        yield* next.seek(offsets[1]!)
        assert.deepStrictEqual(
          (yield* claimAll(next, 2)).map(({ id }) => id),
          ["c", "d"]
        )
      })
  },

  {
    name: "of the publishers of a shard only that of the latest epoch can store anything",
    run: (harness) =>
      Effect.gen(function* () {
        const node = yield* harness.start
        const { characteristics, fencedPublisher, publish } = yield* node.run(Transport.Transport)
        if (fencedPublisher === undefined) {
          return yield* harness.skip(`the ${characteristics.name} transport fences no publishers`)
        }
        const topic = { name: uniqueName("fenced"), partitions: 1 }
        const name = uniqueName("relay")
        const zombie = yield* node.keep(fencedPublisher({ name, shard: 0, epoch: 1 }))
        const other = yield* node.keep(fencedPublisher({ name, shard: 1, epoch: 1 }))
        yield* zombie(topic, [record("a")])
        const successor = yield* node.keep(fencedPublisher({ name, shard: 0, epoch: 2 }))
        const { reason } = yield* Effect.flip(zombie(topic, [record("stale")]))
        assert.strictEqual(reason._tag, "Fenced")
        yield* successor(topic, [record("b"), record("c")])
        yield* other(topic, [record("d")])
        yield* publish(topic, [record("e")])
        const assignment = yield* joinAlone(harness, node, topic)
        assert.deepStrictEqual(
          (yield* claimAll(assignment, 5)).map(({ id }) => id),
          ["a", "b", "c", "d", "e"]
        )
      })
  }
]
