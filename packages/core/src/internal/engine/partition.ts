/** Serves one partition for as long as its lease lasts. */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { Signal } from "../../Backend.ts"
import type { Assignment, ClaimedRecord } from "../../Transport.ts"
import { identify } from "../foreign.ts"
import { type Context, type End, persist, type StopSignal } from "./context.ts"
import { handleDirect } from "./direct.ts"
import { byKey, type Item, inSequence, KeyedQueue, makeItem } from "./keyedQueue.ts"
import { obstaclesOf } from "./obstacles.ts"
import { Progress } from "./progress.ts"
import { maxParked, Redeliver } from "./redeliver.ts"
import type { Served } from "./settle.ts"
import { handleTransactional } from "./transactional.ts"

/** How many records of a partition are claimed beyond the last settled one before no more are. */
const maxOpen = 10_000

/** For how long, and for how many messages, a permit is kept while handlers are short: other partitions wait for it. */
const turnMillis = 5
const maxTurn = 100

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
  // Kafka's transactions know no ids: a record that is passed over, and handled later, would be handled again.
  const laneOf = topic.guarantee === "exactly-once-kafka" ? inSequence : byKey
  const queue = new KeyedQueue(lifecycle.gate, laneOf)
  const atMostOnce = topic.guarantee === "at-most-once"
  const redeliver =
    assignment.redelivery === undefined || laneOf === inSequence
      ? undefined
      : new Redeliver(topic.name, assignment.redelivery, queue, progress, atMostOnce, settings.prefetch)
  const served: Served = { context, assignment, progress, redeliver, laneOf }
  const obstacles = obstaclesOf(partition, queue, progress, redeliver)
  const handle = (delivery.unit === undefined ? handleDirect : handleTransactional(delivery.unit))(served)

  /** Stores how far the settled records reach. */
  const store = Effect.suspend(() => {
    const { reached } = progress
    if (reached <= progress.stored) return Effect.void
    return Effect.map(persist(assignment.settle(reached)), () => {
      progress.stored = Math.max(progress.stored, reached)
    })
  })

  /** However the partition ends, what was handled is stored, unless the lease is lost or the store cannot be reached for long. */
  const storeLast = Effect.suspend(() =>
    progress.reached <= progress.stored
      ? Effect.void
      : store.pipe(
          Effect.timeout(settings.drainTimeout),
          Effect.catch((error) =>
            Effect.logDebug(
              `the last progress on a partition was not stored; its messages come again: ${error.message}`
            )
          )
        )
  )

  return Effect.gen(function* () {
    context.obstacles.add(obstacles)
    const settled = new Signal()

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
        // Backpressure: claims again when half of the buffer is free.
        if (queue.size * 2 > settings.prefetch) {
          yield* queue.downTo(Math.floor(settings.prefetch / 2))
          continue
        }
        const claimed = yield* persist(assignment.claim(settings.prefetch - queue.size))
        const records = claimed.map((record) => identify(topic.name, record))
        const last = records[records.length - 1]!.offset
        observer.tell({ _tag: "Claimed", partition, epoch, count: records.length })
        const offer = Effect.suspend(() => {
          for (const { offset } of records) progress.claim(offset)
          if (redeliver === undefined) return Effect.sync(() => queue.offer(records.map(item)))
          return Effect.map(redeliver.divert(records, item), () => {
            redeliver.parking.passed(last)
            settled.notify()
          })
        })
        // Invariant 3: progress is stored before any of the handlers starts.
        const settle = Effect.map(persist(assignment.settle(last)), () => {
          progress.stored = last
        })
        yield* atMostOnce ? queue.handOver(Effect.andThen(settle, offer)) : offer
      }
    })

    const batchSize = (): number => settings.batch?.maxSize ?? (delivery.unit === undefined ? 1 : context.batch.current)
    const batchWait = settings.batch?.maxWait ?? 0
    // Invariant 20: while one that is in flight waits for its fiber to go on, not more than `prefetch` overtake it.
    const turnSize = Math.min(maxTurn, Math.floor(settings.prefetch / settings.concurrency))
    /** Handles batches under one permit, for as long as there are some and a turn lasts. */
    const turn = Effect.gen(function* (): Effect.fn.Return<void, End, any> {
      const clock = yield* Clock.Clock
      let now = clock.currentTimeMillisUnsafe()
      const end = now + turnMillis
      let batch = queue.take(batchSize(), now)
      for (let handled = 0; batch.length > 0; ) {
        const deferred = yield* handle(batch)
        const staying =
          deferred.length === 0 || redeliver === undefined ? deferred : yield* redeliver.divertItems(deferred)
        queue.done(batch, staying)
        handled += batch.length
        now = clock.currentTimeMillisUnsafe()
        if (handled >= turnSize || now >= end || batchWait > 0) break
        batch = queue.take(batchSize(), now)
      }
      settled.notify()
    })
    const work = Effect.fnUntraced(function* (self: { handling: boolean }): Effect.fn.Return<void, End, any> {
      while (yield* queue.ready(batchSize(), batchWait)) {
        yield* permits.withPermit(
          Effect.suspend(() => {
            self.handling = true
            return Effect.ensuring(
              turn,
              Effect.sync(() => {
                self.handling = false
              })
            )
          })
        )
        yield* Effect.yieldNow
      }
    })

    /** As often as the store keeps up with. */
    const storeAlways = Effect.suspend(() => {
      const seen = settled.version
      return Effect.andThen(store, settled.changed(seen))
    }).pipe(Effect.forever({ disableYield: true }))

    const failed = Deferred.makeUnsafe<never, End>()
    const stopped = Deferred.makeUnsafe<StopSignal>()
    /** That the partition is to be given back, or has failed. */
    const over = Deferred.makeUnsafe<void, End>()
    const end = Deferred.succeed(over, undefined)
    const scope = yield* Effect.scope
    const start = <A>(effect: Effect.Effect<A, End, any>) =>
      Effect.forkIn(
        Effect.tapCause(effect, (cause) =>
          Effect.andThen(Deferred.failCause(failed, cause), Deferred.failCause(over, cause))
        ),
        scope
      )

    const fetching = yield* start(fetch)
    const redelivering = redeliver === undefined ? [] : [yield* start(redeliver.run), yield* start(redeliver.watch)]
    const workers: Array<{ readonly self: { handling: boolean }; readonly fiber: Fiber.Fiber<unknown, End> }> = []
    while (workers.length < settings.concurrency) {
      const self = { handling: false }
      const worker = Effect.catchTag(work(self), "StopSignal", (signal) => {
        queue.close("now")
        return Effect.andThen(Deferred.succeed(stopped, signal), end)
      })
      workers.push({ self, fiber: yield* start(worker) })
    }
    yield* start(storeAlways)
    yield* start(Effect.andThen(draining, end))
    yield* start(Effect.andThen(assignment.revoked, end))
    yield* Deferred.await(over)

    // Invariant 21: nothing new is begun, or claimed; what runs may end; what has ended is stored. At-most-once, what is
    // claimed is settled already, and would be lost: it is handled, unless a failure has stopped the consumer.
    const beginsMore = atMostOnce && !Deferred.isDoneUnsafe(stopped)
    queue.close(beginsMore ? "once empty" : "now")
    if (beginsMore) yield* Effect.timeoutOption(queue.handedOver, settings.drainTimeout)
    yield* Fiber.interruptAll([fetching, ...redelivering])
    // One that waits for a permit of another partition's handler has begun nothing.
    const busy = workers.filter(({ self }) => beginsMore || self.handling)
    yield* Fiber.interruptAll(workers.flatMap((worker) => (busy.includes(worker) ? [] : [worker.fiber])))
    if (busy.length > 0) {
      yield* Effect.raceFirst(
        Deferred.await(failed),
        Effect.timeoutOption(Fiber.joinAll(busy.map(({ fiber }) => fiber)), settings.drainTimeout)
      )
    }
    if (Deferred.isDoneUnsafe(stopped)) return yield* Effect.flip(Deferred.await(stopped))
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
  // The claim under which its process may have ended was not counted singly: it is now.
  const { claims, failures } = record.attempts ?? { claims: suspect ? 1 : 0, failures: 0 }
  return { ...makeItem(record), suspect, counted: suspect, attempt: claims + 1, failures }
}
