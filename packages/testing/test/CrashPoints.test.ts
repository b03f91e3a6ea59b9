/** Flows in memory, crashed before and after each of their steps: what is promised holds, and what is not is found. */
import { assert, it } from "@effect/vitest"
import {
  Consumer,
  DeadLetters,
  Diagnostics,
  type Guarantee,
  MemoryStore,
  Producer,
  Surety,
  Topic,
  Transport
} from "@surety/core"
import * as CrashPoints from "@surety/testing/CrashPoints"
import { Data, Effect, Fiber, Layer, Schedule, Schema, Stream } from "effect"

class Refused extends Data.TaggedError("Refused") {}

const topic = <const G extends Guarantee.Name>(guarantee: G) =>
  Topic.make("work", { schema: Schema.String, guarantee, id: (text) => text, key: (text) => text, partitions: 1 })
const Work = topic("exactly-once")
const Out = Topic.make("out", { schema: Schema.String, guarantee: "at-least-once", id: (text) => text, partitions: 1 })

/** What handlers have done, as rows of the store: with the transaction of their message, where they have one. */
class Rows {
  readonly of: Array<string> = []
  readonly write = (row: string) =>
    Effect.map(MemoryStore.currentTransaction, (transaction) => {
      if (transaction === undefined) this.of.push(row)
      else transaction.changes.push(() => this.of.push(row))
    })
  count = (row: string) => this.of.filter((written) => written === row).length
}

/** Until a group has nothing left to do. */
const settled = (topic: string, group = "workers") =>
  Effect.flatMap(Transport.Transport, (transport) =>
    Effect.repeat(transport.progress(topic, group), {
      until: (progress) => progress.every(({ lag }) => lag === 0),
      schedule: Schedule.spaced("1 second")
    })
  )

const consume = <A, R>(consumer: Consumer.Consumer<A, never, R>) => Layer.build(Consumer.layer(consumer))

const report = ({ missed, moments, pairs, points }: CrashPoints.Report, what: string) =>
  Effect.gen(function* () {
    assert.deepStrictEqual(missed, [])
    assert.isAtLeast(points, moments.length)
    yield* Effect.sync(() => console.log(`${what}: ${points} points, ${pairs} pairs of ${moments.length} moments`))
  })

it.effect(
  "exactly-once: a message is handled once, and what its handler publishes is published once",
  () =>
    Effect.gen(function* () {
      const rows = new Rows()
      let runs = 0
      const done = yield* CrashPoints.enumerate({
        process: Surety.layerMemory,
        flow: ({ id }) =>
          Effect.andThen(
            Producer.publish(Work, id),
            consume(
              Consumer.make(Work, {
                group: "workers",
                handler: (id) => Effect.andThen(rows.write(id), Effect.orDie(Producer.publish(Out, id)))
              })
            )
          ),
        settled: () => settled("work"),
        pairs: 2_000,
        check: ({ id }) =>
          Effect.gen(function* () {
            assert.strictEqual(rows.count(id), 1)
            const transport = yield* Transport.Transport
            const reader = { topic: Topic.declaration(Out), group: "reader", startFrom: "earliest" } as const
            yield* Effect.scoped(transport.subscribe(reader))
            const [outgoing] = yield* transport.progress("out", "reader")
            assert.strictEqual(outgoing!.lag, ++runs)
          })
      })
      yield* report(done, "exactly-once")
      assert.isAbove(done.pairs, done.points)
    }),
  // A machine that is busy takes its time.
  300_000
)

it.effect("a batch is settled as a whole, and its poison goes to the dead letters", () =>
  Effect.gen(function* () {
    const rows = new Rows()
    const done = yield* CrashPoints.enumerate({
      process: Surety.layerMemory,
      flow: ({ id }) =>
        Effect.andThen(
          Producer.publishAll(Work, [`${id}-a`, `${id}-poison`, `${id}-b`]),
          consume(
            Consumer.makeBatch(Work, {
              group: "workers",
              handler: (messages) =>
                Effect.andThen(
                  Effect.forEach(messages, ({ payload }) => rows.write(payload)),
                  messages.some(({ id }) => id.endsWith("poison")) ? new Refused() : Effect.void
                )
            }).pipe(Consumer.orDeadLetter)
          )
        ),
      settled: () => settled("work"),
      pairs: 0,
      check: ({ id }) =>
        Effect.gen(function* () {
          const written = ["a", "poison", "b"].map((name) => rows.count(`${id}-${name}`))
          assert.deepStrictEqual(written, [1, 0, 1])
          const letters = yield* DeadLetters.DeadLetters
          const found = yield* Stream.runCollect(letters.list({ group: "workers", id: `${id}-poison` }))
          // A repeated publish is a second record, which the inbox knows to be dead.
          assert.strictEqual(found.length, 1)
        })
    })
    yield* report(done, "a batch")
  })
)

/** What may be done with a dead letter, and how often its message is handled then. */
for (const [what, times] of [
  ["redrive", 1],
  ["purge", 0]
] as const) {
  it.effect(`a ${what}: the dead letter is gone, and its message is handled ${times} times`, () =>
    Effect.gen(function* () {
      const rows = new Rows()
      const died = new Set<string>()
      const work = Consumer.make(Work, {
        group: "workers",
        handler: (id) => Effect.andThen(rows.write(id), died.has(id) ? Effect.void : new Refused())
      }).pipe(Consumer.orDeadLetter)
      const done = yield* CrashPoints.enumerate({
        process: Surety.layerMemory.pipe(Layer.provideMerge(Diagnostics.layer)),
        flow: ({ id }) =>
          Effect.gen(function* () {
            // Or it is dead, and its repeated publish has no effect.
            const dead = yield* Diagnostics.events.pipe(
              Stream.filter((event) => event._tag === "DeadLettered" || event._tag === "Duplicate"),
              Stream.runHead,
              Effect.forkScoped({ startImmediately: true })
            )
            yield* consume(work)
            if (!died.has(id)) {
              yield* Producer.publish(Work, id)
              yield* Fiber.join(dead)
              died.add(id)
            }
            const letters = yield* DeadLetters.DeadLetters
            yield* letters[what]({ topic: "work", id })
          }),
        settled: () => settled("work"),
        pairs: 0,
        check: ({ id }) =>
          Effect.gen(function* () {
            assert.strictEqual(rows.count(id), times)
            const letters = yield* DeadLetters.DeadLetters
            assert.deepStrictEqual(yield* Stream.runCollect(letters.list({ id })), [])
          })
      })
      assert.include(done.moments, `after ${what} of work`)
      yield* report(done, `a ${what}`)
    })
  )
}

it.effect("at-least-once: finds that a message may be handled twice, and after which crash", () =>
  Effect.gen(function* () {
    const Mails = topic("at-least-once")
    const rows = new Rows()
    const error = yield* CrashPoints.enumerate({
      process: Surety.layerMemory,
      flow: ({ id }) =>
        Effect.andThen(
          Producer.publish(Mails, id),
          consume(Consumer.make(Mails, { group: "workers", handler: rows.write }))
        ),
      settled: () => settled("work"),
      check: ({ id }) => Effect.sync(() => assert.strictEqual(rows.count(id), 1))
    }).pipe(Effect.flip)
    assert.match(error.message, /^a crash after publish of work: expected 2 to equal 1/)
  })
)

it.effect("steps of one's own, and a flow that ends by itself", () =>
  Effect.gen(function* () {
    const files = new Map<string, number>()
    const upload = (name: string) => CrashPoints.step("upload")(Effect.sync(() => files.set(name, 1)))
    const add = (name: string) =>
      CrashPoints.step("add")(Effect.sync(() => files.set(name, (files.get(name) ?? 0) + 1)))
    const flow = { process: Layer.empty, pairs: 100 }
    const done = yield* CrashPoints.enumerate({
      ...flow,
      flow: ({ id }) => Effect.andThen(upload(`${id}-a`), upload(`${id}-b`)),
      check: ({ id }) => Effect.sync(() => assert.deepStrictEqual([files.get(`${id}-a`), files.get(`${id}-b`)], [1, 1]))
    })
    assert.deepStrictEqual(done, {
      moments: ["before upload", "after upload", "before upload (2)", "after upload (2)"],
      points: 4,
      pairs: 16,
      missed: []
    })
    const one = yield* CrashPoints.enumerate({
      ...flow,
      flow: ({ id }) => Effect.andThen(upload(`${id}-a`), upload(`${id}-b`)),
      at: (moment) => moment === "after upload (2)",
      check: () => Effect.void
    })
    assert.deepStrictEqual(one, { moments: ["after upload (2)"], points: 1, pairs: 4, missed: [] })
    const error = yield* CrashPoints.enumerate({
      ...flow,
      flow: ({ id }) => add(id),
      check: ({ id }) => Effect.sync(() => assert.strictEqual(files.get(id), 1))
    }).pipe(Effect.flip)
    assert.match(error.message, /^a crash after add: expected 2 to equal 1/)
  })
)
