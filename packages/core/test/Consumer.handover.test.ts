/** A deploy: what a member gives up as it drains is its successor's at once (invariant 21). */
import { assert, describe, it } from "@effect/vitest"
import { Consumer, MemoryStore, Producer } from "@surety/core"
import { Deferred, Effect, Exit, Fiber, Layer, Queue, Scope, Stream } from "effect"
import { layerNode, note, notes, quiet, takeN } from "./support.ts"

for (const guarantee of ["at-least-once", "exactly-once"] as const) {
  const Notes = notes(guarantee, 8)

  describe(`a member that drains, ${guarantee}`, () => {
    for (const concurrency of [1, 2]) {
      it.effect(`keeps only the partition whose handler runs, of ${concurrency} at once`, () =>
        Effect.gen(function* () {
          const slow = yield* Deferred.make<void>()
          const handled = yield* Queue.unbounded<string>()
          const started = yield* Deferred.make<void>()
          const consumer = Consumer.make(Notes, {
            group: "readers",
            concurrency,
            batchSize: 1,
            handler: ({ id }) =>
              Effect.gen(function* () {
                if (id === "slow") {
                  yield* Deferred.succeed(started, undefined)
                  yield* Deferred.await(slow)
                }
                yield* Queue.offer(handled, id)
              })
          })
          const start = Effect.gen(function* () {
            const scope = yield* Scope.make()
            const node = yield* Layer.buildWithScope(layerNode({ alive: true }), scope)
            const running = yield* Consumer.start(consumer).pipe(Scope.provide(scope), Effect.provide(node))
            return { running, node, stop: Scope.close(scope, Exit.void) }
          })
          const old = yield* start
          yield* Producer.publish(Notes, note("slow", "slow")).pipe(Effect.provide(old.node))
          yield* Deferred.await(started)
          // Every partition has work, and its workers wait for permits.
          const others = Array.from({ length: 40 }, (_, index) => note(`${index}`, `${index}`))
          if (concurrency === 1) {
            yield* Producer.publishAll(Notes, others).pipe(Effect.provide(old.node))
            yield* quiet
          }
          const stopping = yield* Effect.forkChild(old.stop)
          yield* quiet
          const successor = yield* start
          const serves = (count: number) =>
            successor.running.changes.pipe(
              Stream.filter(({ partitions }) => partitions.length === count),
              Stream.runHead
            )
          yield* serves(7)
          assert.lengthOf((yield* old.running.status).partitions, 1)
          assert.isUndefined(stopping.pollUnsafe())
          yield* Deferred.succeed(slow, undefined)
          yield* serves(8)
          yield* Fiber.join(stopping)
          if (concurrency === 1) {
            const all = yield* takeN(handled, others.length + 1)
            assert.deepStrictEqual([...new Set(all)].sort(), ["slow", ...others.map(({ id }) => id)].sort())
          }
          yield* successor.stop
          assert.strictEqual(yield* Queue.size(handled), concurrency === 1 ? 0 : 1)
        }).pipe(Effect.provide(MemoryStore.layer))
      )
    }
  })
}
