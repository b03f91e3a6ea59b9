/** Serves one partition for as long as its lease lasts. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { Signal } from "../../Backend.ts"
import type { Assignment, ClaimedRecord } from "../../Transport.ts"
import { identify } from "../foreign.ts"
import { type Context, type End, persist } from "./context.ts"
import { handleDirect } from "./direct.ts"
import { type Item, KeyedQueue, makeItem } from "./keyedQueue.ts"
import { obstaclesOf } from "./obstacles.ts"
import { Progress } from "./progress.ts"
import { maxParked, Redeliver } from "./redeliver.ts"
import type { Served } from "./settle.ts"
import { handleTransactional } from "./transactional.ts"

/** How many records of a partition are claimed beyond the last settled one before no more are. */
const maxOpen = 10_000

/** Completes when the partition was given back; `draining` asks for that, and `mayRelease` says when it can be. */
export const servePartition = (
  context: Context,
  assignment: Assignment,
  draining: Effect.Effect<void>,
  mayRelease: Effect.Effect<void>
): Effect.Effect<void, End, any> => {
  const { consumer, delivery, lifecycle, observer, permits } = context
  const { epoch, partition } = assignment
  observer.tell({ _tag: "Assigned", partition, epoch })
  const { settings, topic } = consumer
  const progress = new Progress(assignment.settled)
  const queue = new KeyedQueue(lifecycle.gate)
  const atMostOnce = topic.guarantee === "at-most-once"
  const redeliver =
    assignment.redelivery === undefined
      ? undefined
      : new Redeliver(topic.name, assignment.redelivery, queue, progress, atMostOnce, settings.prefetch)
  const served: Served = { context, assignment, progress, redeliver }
  const obstacles = obstaclesOf(partition, queue, progress, redeliver)
  context.obstacles.add(obstacles)
  const handle = delivery.unit === undefined ? handleDirect : handleTransactional(delivery.unit)

  /** Stores how far the settled records reach. */
  const store = Effect.suspend(() => {
    const { reached } = progress
    if (reached <= progress.stored) return Effect.void
    return Effect.map(persist(assignment.settle(reached)), () => {
      progress.stored = Math.max(progress.stored, reached)
    })
  })

  /** However the partition ends, what was handled is stored, unless the lease is lost or the store cannot be reached for long. */
  const storeLast = store.pipe(
    Effect.timeout(settings.drainTimeout),
    Effect.catch((error) =>
      Effect.logDebug(`the last progress on a partition was not stored; its messages come again: ${error.message}`)
    )
  )

  return Effect.gen(function* () {
    const settled = new Signal()
    let leaving = false

    // At-most-once no handler has started for what a former holder claimed without settling it: nothing is counted.
    const item = atMostOnce ? makeItem : (record: ClaimedRecord) => toItem(record, assignment)
    const fetch = Effect.gen(function* () {
      if (redeliver !== undefined) yield* redeliver.load
      while (true) {
        if (redeliver !== undefined && redeliver.parking.passedSize >= maxParked) {
          const { signal } = redeliver.parking
          yield* signal.changed(signal.version)
          continue
        }
        // Behind a message that takes long, others are settled that a crash would bring again.
        if (progress.open >= maxOpen) {
          yield* settled.changed(settled.version)
          continue
        }
        yield* lifecycle.gate.await
        const seen = queue.signal.version
        const room = settings.prefetch - queue.size
        // Backpressure: claims again when half of the buffer is free.
        if (room * 2 < settings.prefetch) {
          yield* queue.signal.changed(seen)
          continue
        }
        const claimed = yield* persist(assignment.claim(room))
        const records = claimed.map((record) => identify(topic.name, record))
        const last = records[records.length - 1]!.offset
        observer.tell({ _tag: "Claimed", partition, epoch, count: records.length })
        if (atMostOnce) {
          // Invariant 3: progress is stored before any of the handlers starts.
          yield* persist(assignment.settle(last))
          progress.stored = last
        }
        for (const { offset } of records) progress.claim(offset)
        if (redeliver === undefined) {
          queue.offer(records.map(item))
        } else {
          yield* redeliver.divert(records, item)
          redeliver.parking.passed(last)
          settled.notify()
        }
      }
    })

    const batchSize = (): number => settings.batch?.maxSize ?? (delivery.unit === undefined ? 1 : context.batch.current)
    const work = Effect.fnUntraced(function* (self: { handling: boolean }): Effect.fn.Return<void, End, any> {
      while (true) {
        const batch = yield* queue.take(batchSize(), settings.batch?.maxWait)
        if (batch === undefined) return
        const deferred = yield* permits.withPermit(
          Effect.suspend(() => {
            if (leaving) return Effect.succeed(batch)
            self.handling = true
            return Effect.ensuring(
              handle(served, batch),
              Effect.sync(() => {
                self.handling = false
              })
            )
          })
        )
        queue.done(batch, redeliver === undefined ? deferred : yield* redeliver.divertItems(deferred))
        settled.notify()
      }
    })

    /** As often as the store keeps up with. */
    const storeAlways = Effect.suspend(() => {
      const seen = settled.version
      return Effect.andThen(store, settled.changed(seen))
    }).pipe(Effect.forever)

    const failed = Deferred.makeUnsafe<never, End>()
    const start = <A>(effect: Effect.Effect<A, End, any>) =>
      Effect.forkScoped(Effect.tapCause(effect, (cause) => Deferred.failCause(failed, cause)))

    const fetching = yield* start(fetch)
    const redelivering = redeliver === undefined ? [] : [yield* start(redeliver.run), yield* start(redeliver.watch)]
    const workers = yield* Effect.forEach(
      Array.from({ length: settings.concurrency }, () => ({ handling: false })),
      (self) => Effect.map(start(work(self)), (fiber) => ({ self, fiber }))
    )
    yield* start(storeAlways)
    yield* Effect.raceFirst(Deferred.await(failed), Effect.raceFirst(draining, assignment.revoked))

    // Invariant 21: nothing new is claimed; what runs may end; what has ended is stored. At-most-once, what is claimed
    // is settled already, and would be lost: it is handled.
    yield* Fiber.interruptAll([fetching, ...redelivering])
    leaving = !atMostOnce
    queue.close(atMostOnce ? "once empty" : "now")
    // One that waits for a permit of another partition's handler has begun nothing.
    if (leaving) yield* Fiber.interruptAll(workers.flatMap(({ fiber, self }) => (self.handling ? [] : [fiber])))
    const handling = workers.flatMap(({ fiber, self }) => (!leaving || self.handling ? [fiber] : []))
    yield* Effect.raceFirst(
      Deferred.await(failed),
      Effect.timeoutOption(Fiber.joinAll(handling), settings.drainTimeout)
    )
  }).pipe(
    Effect.scoped,
    Effect.ensuring(storeLast),
    Effect.ensuring(Effect.andThen(mayRelease, assignment.release)),
    Effect.ensuring(Effect.sync(() => context.obstacles.delete(obstacles))),
    Effect.tap(() => Effect.sync(() => observer.tell({ _tag: "Released", partition, epoch })))
  )
}

const toItem = (record: ClaimedRecord, assignment: Assignment): Item => {
  const suspect = record.offset <= assignment.suspectUntil || record.attempts !== undefined
  return { ...makeItem(record), suspect, counted: suspect, failures: record.attempts?.failures ?? 0 }
}
