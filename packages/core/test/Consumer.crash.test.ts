import { assert, describe, it } from "@effect/vitest"
import { Consumer, type Envelope, MemoryStore, Producer, Topic, Transport, TransportError } from "@surety/core"
import { OutcomeUnknown } from "@surety/core/TransportError"
import { Effect, Exit, Fiber, Layer, Queue, Schedule, Scope } from "effect"
import { TestClock } from "effect/testing"
import {
  type Broken,
  Busy,
  during,
  lag,
  layerNode,
  layerOver,
  letters,
  note,
  notes,
  quiet,
  seen,
  takeN,
  withAssignments
} from "./support.ts"

/** Processes on one store, each with its consumer: what a process does after its crash no longer reaches the store. */
const process = <A, E, R>(body: (crash: Effect.Effect<void>) => Layer.Layer<A, E, R>) =>
  Effect.gen(function* () {
    const node = { alive: true }
    const scope = yield* Scope.make()
    const crash = Effect.sync(() => {
      node.alive = false
    })
    const context = yield* Layer.buildWithScope(Layer.provideMerge(body(crash), layerNode(node)), scope)
    return {
      context,
      crash,
      stop: Scope.close(scope, Exit.void)
    }
  })

/** Long enough for the leases of a crashed process to expire, and to be taken over. */
const expire = Effect.andThen(quiet, TestClock.adjust("25 seconds"))

for (const guarantee of ["at-least-once", "exactly-once"] as const) {
  const Notes = notes(guarantee)

  const consumer = (
    events: Queue.Queue<string>,
    handler: (envelope: Envelope.Envelope<unknown>) => Effect.Effect<unknown, Busy | Broken>,
    options: { readonly maxCrashes?: number; readonly concurrency?: number } = {}
  ) =>
    Consumer.make(Notes, {
      group: "readers",
      ...options,
      handler: (_, envelope) => Effect.andThen(Queue.offer(events, seen(envelope)), handler(envelope))
    }).pipe(Consumer.retry("Busy", Schedule.spaced("1 second")), Consumer.orDeadLetter, Consumer.layer)

  describe(`crashes while a message of an ${guarantee} topic is handled`, () => {
    it.effect("count as attempts, and end in the dead letters when there were enough", () =>
      Effect.gen(function* () {
        const events = yield* Queue.unbounded<string>()
        const first = yield* process(() => Layer.empty)
        yield* Effect.provide(Producer.publishAll(Notes, [note("killer"), note("next")]), first.context)
        for (const attempt of [1, 2, 3, 4]) {
          const { crash } = yield* process(() =>
            consumer(events, ({ id }) => (id === "killer" ? Effect.never : Effect.void))
          )
          if (attempt > 1) yield* expire
          assert.deepStrictEqual(yield* takeN(events, 1), [`killer#${attempt}`])
          yield* crash
        }
        const last = yield* process(() => consumer(events, () => Effect.void))
        yield* expire
        assert.deepStrictEqual(yield* takeN(events, 1), ["next#2"])
        yield* last.stop
        yield* Effect.gen(function* () {
          assert.strictEqual(yield* lag("notes", "readers"), 0)
          assert.deepStrictEqual(
            (yield* letters()).map(({ attempts, failure, record }) => [record.id, failure.tag, attempts]),
            [["killer", "Crashed", 4]]
          )
        }).pipe(Effect.provide(first.context))
      }).pipe(Effect.provide(MemoryStore.layer))
    )

    it.effect("follow the attempts that failed before them, one by one", () =>
      Effect.gen(function* () {
        const events = yield* Queue.unbounded<string>()
        const one = yield* process(() =>
          consumer(events, ({ attempt }) => (attempt === 1 ? new Busy({ wait: 1 }) : Effect.never))
        )
        yield* Effect.provide(Producer.publish(Notes, note("a")), one.context)
        assert.deepStrictEqual(yield* takeN(events, 1), ["a#1"])
        yield* quiet
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(yield* takeN(events, 1), ["a#2"])
        yield* one.crash
        const two = yield* process(() =>
          consumer(events, ({ attempt }) => (attempt === 3 ? new Busy({ wait: 1 }) : Effect.void))
        )
        yield* expire
        assert.deepStrictEqual(yield* takeN(events, 2), ["a#3", "a#4"])
        yield* two.stop
        assert.strictEqual(yield* Effect.provide(lag("notes", "readers"), two.context), 0)
      }).pipe(Effect.provide(MemoryStore.layer))
    )

    it.effect("do not harm the messages that were claimed with it", () =>
      Effect.gen(function* () {
        const events = yield* Queue.unbounded<string>()
        const first = yield* process(() => Layer.empty)
        const ids = ["a", "killer", "b", "c"]
        yield* Effect.provide(
          Producer.publishAll(
            Notes,
            ids.map((id) => note(id))
          ),
          first.context
        )
        const handled = new Set<string>()
        const crashing = (crash: Effect.Effect<void>) =>
          consumer(
            events,
            ({ id }) => (id === "killer" ? Effect.andThen(crash, Effect.never) : Effect.sync(() => handled.add(id))),
            { maxCrashes: 1, concurrency: 4 }
          )
        for (let i = 0; i < 4; i++) {
          yield* process(crashing)
          yield* expire
        }
        assert.deepStrictEqual([...handled].sort(), ["a", "b", "c"])
        const dead = yield* Effect.provide(letters(), first.context)
        assert.deepStrictEqual(
          dead.map(({ attempts, record }) => [record.id, attempts]),
          [["killer", 2]]
        )
        assert.strictEqual(yield* Effect.provide(lag("notes", "readers"), first.context), 0)
      }).pipe(Effect.provide(MemoryStore.layer))
    )
  })
}

describe("a message that was repeated, and handled, behind one that is not settled yet", () => {
  const Notes = notes("at-least-once")

  it.effect("is not taken for one that crashes, however often the consumer restarts in order", () =>
    Effect.gen(function* () {
      const events = yield* Queue.unbounded<string>()
      const node = yield* process(() => Layer.empty)
      yield* Effect.provide(Producer.publishAll(Notes, [note("stuck", "k"), note("a")]), node.context)
      for (let i = 0; i < 6; i++) {
        const { stop } = yield* process(() =>
          Consumer.make(Notes, {
            group: "readers",
            concurrency: 2,
            handler: ({ id }, envelope) =>
              id === "stuck"
                ? new Busy({ wait: 1 })
                : Effect.andThen(
                    Queue.offer(events, id),
                    i === 0 && envelope.attempt === 1 ? new Busy({ wait: 1 }) : Effect.void
                  )
          }).pipe(Consumer.retry(Schedule.spaced("1 second")), Consumer.orDeadLetter, Consumer.layer)
        )
        yield* takeN(events, 1)
        if (i === 0) {
          yield* quiet
          yield* TestClock.adjust("1 second")
          yield* takeN(events, 1)
        }
        yield* quiet
        const stopping = yield* Effect.forkChild(stop)
        yield* quiet
        yield* TestClock.adjust("10 seconds")
        yield* Fiber.join(stopping)
      }
      assert.deepStrictEqual(yield* Effect.provide(letters(), node.context), [])
    }).pipe(Effect.provide(MemoryStore.layer))
  )
})

describe("a crash between the claim of an at-most-once message and its settlement", () => {
  const Notes = notes("at-most-once")

  it.effect("leaves it to its first attempt, and nothing to be counted", () =>
    Effect.gen(function* () {
      const events = yield* Queue.unbounded<string>()
      const first = yield* process(() => Layer.empty)
      yield* Effect.gen(function* () {
        yield* Producer.publishAll(Notes, [note("a"), note("b")])
        const transport = yield* Transport.Transport
        const { next } = yield* transport.subscribe({
          topic: Topic.declaration(Notes),
          group: "readers",
          startFrom: "earliest"
        })
        const assignment = yield* next
        assert.lengthOf(yield* assignment.claim(10), 2)
      }).pipe(Effect.provide(first.context))
      yield* first.crash
      yield* process(() =>
        Consumer.layer(
          Consumer.make(Notes, { group: "readers", handler: (_, envelope) => Queue.offer(events, seen(envelope)) })
        )
      )
      yield* expire
      assert.deepStrictEqual(yield* takeN(events, 2), ["a#1", "b#1"])
      const [group] = (yield* MemoryStore.MemoryStore).groups.values()
      assert.deepStrictEqual(
        group!.cursors.map(({ attempts }) => attempts.size),
        [0]
      )
    }).pipe(Effect.scoped, Effect.provide(MemoryStore.layer))
  )
})

describe("counts of attempts whose replies are lost", () => {
  const Notes = notes("at-least-once")

  it.effect("are stored once, however often they are repeated, and no crash is made of them", () => {
    const lost = new Map<string, number>()
    const forgetful = layerOver(
      withAssignments((assignment) => ({
        count: (offset, attempts) =>
          Effect.flatMap(assignment.count(offset, attempts), () => {
            const what = `${offset} ${attempts.claims}/${attempts.failures}`
            lost.set(what, (lost.get(what) ?? 0) + 1)
            const reason = new OutcomeUnknown({ detail: "the connection was lost" })
            return lost.get(what)! < 3
              ? Effect.fail(new TransportError({ operation: "count", topic: "notes", reason }))
              : Effect.void
          })
      }))
    )
    return Effect.gen(function* () {
      const events = yield* Queue.unbounded<string>()
      yield* Producer.publish(Notes, note("a"))
      const reader = Consumer.make(Notes, {
        group: "readers",
        maxCrashes: 1,
        handler: (_, envelope) =>
          Effect.andThen(
            Queue.offer(events, seen(envelope)),
            envelope.attempt < 5 ? new Busy({ wait: 1 }) : Effect.void
          )
      }).pipe(Consumer.retry(Schedule.spaced("1 second")), Consumer.orDeadLetter)
      yield* during(
        reader,
        Effect.gen(function* () {
          yield* Effect.forkChild(Effect.repeat(TestClock.adjust("1 second"), { times: 30 }))
          assert.deepStrictEqual(yield* takeN(events, 5), ["a#1", "a#2", "a#3", "a#4", "a#5"])
        })
      )
      assert.deepStrictEqual(yield* letters(), [])
      assert.deepStrictEqual(
        [...lost].map(([what, times]) => `${what} ${times}`),
        ["1 1/1 3", "1 2/1 3", "1 2/2 3", "1 3/2 3", "1 3/3 3", "1 4/3 3", "1 4/4 3", "1 5/4 3"]
      )
    }).pipe(Effect.provide(forgetful))
  })
})
