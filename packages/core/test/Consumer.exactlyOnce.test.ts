import { assert, describe, it } from "@effect/vitest"
import { Consumer, MemoryStore, Producer, Surety, Topic, Transaction } from "@surety/core"
import { Deferred, Effect, Exit, Queue, Schedule, Schema } from "effect"
import { TestClock } from "effect/testing"
import { groupKey, takeOver } from "../src/internal/memory/store.ts"
import {
  OutcomeUnknown,
  TransactionFailed,
  TransportError,
  type TransportErrorReason,
  Unauthorized,
  Unavailable
} from "../src/TransportError.ts"
import {
  Broken,
  Busy,
  during,
  lag,
  layerNode,
  layerOver,
  letters,
  type Note,
  note,
  notes,
  quiet,
  seen,
  takeN
} from "./support.ts"

const Notes = notes("exactly-once")
const Out = Topic.make("out", { schema: Schema.String, guarantee: "at-least-once", partitions: 1 })
const storeFailure = (reason: TransportErrorReason) =>
  new TransportError({ operation: "store", topic: "notes", reason })

/** A consumer whose handlers' effects are recorded once they are committed. */
const recording = <E>(
  runs: Queue.Queue<string>,
  committed: Queue.Queue<string>,
  handler: (note: Note, attempt: number) => Effect.Effect<unknown, E, Transaction>,
  options: Partial<Consumer.Options<never>> = {}
) =>
  Consumer.make(Notes, {
    ...options,
    group: "readers",
    handler: Effect.fn(function* (payload, envelope) {
      yield* Queue.offer(runs, seen(envelope))
      const { afterCommit } = yield* Transaction
      yield* afterCommit(Effect.asVoid(Queue.offer(committed, payload.id)))
      yield* handler(payload, envelope.attempt)
    })
  })

const queues = Effect.all([Queue.unbounded<string>(), Queue.unbounded<string>()])

describe("deduplication", () => {
  it.effect("handles each id once per group, however often and wherever it is published", () =>
    Effect.gen(function* () {
      const Spread = Topic.make("spread", {
        schema: Schema.Struct({ id: Schema.String, key: Schema.String }),
        guarantee: "exactly-once",
        id: ({ id }) => id,
        key: ({ key }) => key,
        partitions: 8
      })
      const runs = yield* Queue.unbounded<string>()
      const consumer = (group: string) =>
        Consumer.make(Spread, { group, concurrency: 4, handler: ({ id }) => Queue.offer(runs, `${group} ${id}`) })
      const copies = Array.from({ length: 20 }, (_, i) => ({ id: i % 2 === 0 ? "a" : "b", key: `k${i}` }))
      yield* Producer.publishAll(Spread, copies)
      yield* during(consumer("one"), Effect.andThen(takeN(runs, 2), quiet))
      assert.strictEqual(yield* Queue.size(runs), 0)
      yield* Producer.publishAll(Spread, copies)
      yield* during(consumer("one"), quiet)
      assert.strictEqual(yield* Queue.size(runs), 0)
      assert.strictEqual(yield* lag("spread", "one"), 0)
      yield* during(consumer("two"), quiet)
      assert.deepStrictEqual([...(yield* Queue.clear(runs))].sort(), ["two a", "two b"])
    }).pipe(Effect.provide(Surety.layerMemory))
  )

  for (const name of ["dead-lettered", "discarded"] as const) {
    it.effect(`counts a ${name} message as settled`, () =>
      Effect.gen(function* () {
        const [runs, committed] = yield* queues
        const broken = recording(runs, committed, () => new Broken())
        const consumer =
          name === "discarded" ? broken.pipe(Consumer.discard("Broken")) : broken.pipe(Consumer.orDeadLetter)
        yield* Producer.publish(Notes, note("a"))
        yield* during(consumer, quiet)
        yield* Producer.publish(Notes, note("a"))
        yield* during(consumer, quiet)
        assert.deepStrictEqual(yield* Queue.clear(runs), ["a#1"])
        assert.deepStrictEqual(yield* Queue.clear(committed), [])
        assert.strictEqual((yield* letters()).length, name === "discarded" ? 0 : 1)
        assert.strictEqual(yield* lag("notes", "readers"), 0)
      }).pipe(Effect.provide(Surety.layerMemory))
    )
  }
})

describe("batches", () => {
  it.effect("share a transaction, and are halved around poison: the innocent commit once, in order", () =>
    Effect.gen(function* () {
      const [runs, committed] = yield* queues
      const ids = Array.from({ length: 16 }, (_, i) => `m${i}`)
      yield* Producer.publishAll(
        Notes,
        ids.map((id) => note(id, "k"))
      )
      yield* during(
        recording(runs, committed, ({ id }) => (id === "m5" || id === "m11" ? new Broken() : Effect.void)).pipe(
          Consumer.orDeadLetter
        ),
        quiet
      )
      assert.deepStrictEqual(
        yield* Queue.clear(committed),
        ids.filter((id) => id !== "m5" && id !== "m11")
      )
      assert.deepStrictEqual(
        (yield* letters()).map(({ attempts, record }) => [record.id, attempts]),
        [
          ["m5", 1],
          ["m11", 1]
        ]
      )
      assert.strictEqual(yield* lag("notes", "readers"), 0)
      const attempts = yield* Queue.clear(runs)
      // Two poisons in 16: no message runs more often than the batch can be halved, and once more.
      for (const id of ids) assert.isAtMost(attempts.filter((run) => run.startsWith(`${id}#`)).length, 5)
      assert.isTrue(attempts.every((run) => run.endsWith("#1")))
    }).pipe(Effect.provide(Surety.layerMemory))
  )

  it.effect("put what is behind a message that waits for its retry back, in order", () =>
    Effect.gen(function* () {
      const [runs, committed] = yield* queues
      yield* Producer.publishAll(Notes, [
        note("a1", "a"),
        note("b1", "b"),
        note("a2", "a"),
        note("b2", "b"),
        note("a3", "a")
      ])
      yield* during(
        recording(runs, committed, ({ id }, attempt) =>
          id === "a2" && attempt === 1 ? new Busy({ wait: 1 }) : Effect.void
        ).pipe(Consumer.retry(Schedule.spaced("1 minute")), Consumer.orDeadLetter),
        Effect.gen(function* () {
          assert.deepStrictEqual((yield* takeN(committed, 3)).sort(), ["a1", "b1", "b2"])
          yield* quiet
          assert.strictEqual(yield* Queue.size(committed), 0)
          yield* TestClock.adjust("1 minute")
          assert.deepStrictEqual(yield* takeN(committed, 2), ["a2", "a3"])
        })
      )
      assert.strictEqual(yield* lag("notes", "readers"), 0)
    }).pipe(Effect.provide(Surety.layerMemory))
  )

  it.effect("hold at most batchSize messages", () =>
    Effect.gen(function* () {
      const [runs, committed] = yield* queues
      const ids = Array.from({ length: 10 }, (_, i) => `m${i}`)
      yield* Producer.publishAll(
        Notes,
        ids.map((id) => note(id))
      )
      const sizes: Array<number> = []
      yield* during(
        recording(runs, committed, () => Effect.map(Queue.size(committed), (size) => sizes.push(size)), {
          batchSize: 3
        }),
        quiet
      )
      // What is committed when a handler starts: whole batches.
      assert.deepStrictEqual(sizes, [0, 0, 0, 3, 3, 3, 6, 6, 6, 9])
    }).pipe(Effect.provide(Surety.layerMemory))
  )
})

describe("afterCommit", () => {
  it.effect("runs after the commit alone: not after a failed attempt, and what it does harms nothing", () =>
    Effect.gen(function* () {
      const committed = yield* Queue.unbounded<string>()
      yield* Producer.publish(Notes, note("a"))
      const lagAtCommit = yield* Deferred.make<number>()
      yield* during(
        Consumer.make(Notes, {
          group: "readers",
          handler: Effect.fn(function* ({ id }, { attempt }) {
            const { afterCommit } = yield* Transaction
            yield* afterCommit(Effect.die("a mistake"))
            yield* afterCommit(Effect.asVoid(Queue.offer(committed, `${id}#${attempt}`)))
            if (attempt === 1) return yield* new Busy({ wait: 1 })
          })
        }).pipe(Consumer.retry(Schedule.recurs(1)), Consumer.orDeadLetter),
        Effect.gen(function* () {
          assert.deepStrictEqual(yield* takeN(committed, 1), ["a#2"])
          yield* quiet
          yield* Effect.flatMap(lag("notes", "readers"), (lag) => Deferred.succeed(lagAtCommit, lag))
        })
      )
      assert.strictEqual(yield* Deferred.await(lagAtCommit), 0)
      assert.strictEqual(yield* Queue.size(committed), 0)
      assert.deepStrictEqual(yield* letters(), [])
    }).pipe(Effect.provide(Surety.layerMemory))
  )
})

describe("a savepoint", () => {
  it.effect("that is rolled back takes what was published in it with it, and nothing else", () =>
    Effect.gen(function* () {
      const received = yield* Queue.unbounded<string>()
      const committed = yield* Queue.unbounded<string>()
      const ledger = Consumer.make(Notes, {
        group: "readers",
        handler: Effect.fn(function* ({ id }) {
          const { afterCommit } = yield* Transaction
          const inside = (name: string) =>
            Effect.andThen(Producer.publish(Out, name), afterCommit(Effect.asVoid(Queue.offer(committed, name))))
          yield* inside(`${id} before`)
          yield* MemoryStore.savepoint(
            Effect.gen(function* () {
              // Released, and lost with the one around it.
              yield* MemoryStore.savepoint(inside("released"))
              yield* inside("rolled back")
              return yield* new Broken()
            })
          ).pipe(Effect.ignore)
          yield* MemoryStore.savepoint(inside(`${id} kept`))
          yield* inside(`${id} after`)
        })
      }).pipe(Consumer.orDeadLetter)
      const reader = Consumer.make(Out, { group: "readers", handler: (name) => Queue.offer(received, name) })
      yield* Producer.publish(Notes, note("a"))
      yield* during(
        ledger,
        during(
          reader,
          Effect.gen(function* () {
            assert.deepStrictEqual(yield* takeN(received, 3), ["a before", "a kept", "a after"])
            yield* quiet
          })
        )
      )
      assert.strictEqual(yield* Queue.size(received), 0)
      assert.deepStrictEqual(yield* takeN(committed, 3), ["a before", "a kept", "a after"])
      assert.strictEqual(yield* Queue.size(committed), 0)
    }).pipe(Effect.provide(Surety.layerMemory))
  )

  it.effect("needs a transaction", () =>
    Effect.gen(function* () {
      const exit = yield* Effect.exit(MemoryStore.savepoint(Effect.void))
      assert.isTrue(Exit.hasDies(exit))
    })
  )
})

describe("failures of the store", () => {
  /** The first transactions end so. */
  const flaky = (...ends: ReadonlyArray<"refused" | "reply lost">) => {
    let next = 0
    return layerOver(() => ({}), {
      inbox: (real) => ({
        transaction: ((holder, body) =>
          Effect.suspend(() => {
            const end = ends[next++]
            const transaction = real.transaction(holder, body)
            if (end === undefined) return transaction
            return end === "refused"
              ? Effect.fail(storeFailure(new Unavailable({ detail: "down" })))
              : Effect.andThen(transaction, Effect.fail(storeFailure(new OutcomeUnknown({ detail: "lost" }))))
          })) as typeof real.transaction
      })
    })
  }

  const pass = Effect.forEach([1, 2, 3], () => Effect.andThen(quiet, TestClock.adjust("10 seconds")))

  it.effect("are repeated, and count as nobody's attempt", () =>
    Effect.gen(function* () {
      const [runs, committed] = yield* queues
      yield* Producer.publish(Notes, note("a"))
      yield* during(
        recording(runs, committed, () => Effect.void),
        pass
      )
      assert.deepStrictEqual(yield* Queue.clear(runs), ["a#1"])
      assert.deepStrictEqual(yield* Queue.clear(committed), ["a"])
    }).pipe(Effect.provide(flaky("refused", "refused")))
  )

  it.effect("after the commit change nothing: the message is settled once", () =>
    Effect.gen(function* () {
      const [runs, committed] = yield* queues
      yield* Producer.publish(Notes, note("a"))
      yield* during(
        recording(runs, committed, () => Effect.void),
        pass
      )
      assert.deepStrictEqual(yield* Queue.clear(runs), ["a#1"])
      assert.deepStrictEqual(yield* Queue.clear(committed), ["a"])
      assert.strictEqual(yield* lag("notes", "readers"), 0)
    }).pipe(Effect.provide(flaky("reply lost")))
  )

  it.effect("after the commit of a dead letter leave one dead letter", () =>
    Effect.gen(function* () {
      const [runs, committed] = yield* queues
      yield* Producer.publish(Notes, note("a"))
      yield* during(recording(runs, committed, () => new Broken()).pipe(Consumer.orDeadLetter), pass)
      assert.deepStrictEqual(yield* Queue.clear(runs), ["a#1"])
      assert.strictEqual((yield* letters()).length, 1)
      assert.strictEqual(yield* lag("notes", "readers"), 0)
    }).pipe(Effect.provide(flaky("reply lost", "reply lost")))
  )

  it.effect("that a handler meets are the store's, where the inbox says so", () =>
    Effect.gen(function* () {
      const [runs, committed] = yield* queues
      let deadlocks = 2
      yield* Producer.publish(Notes, note("a"))
      yield* during(
        recording(runs, committed, () => (deadlocks-- > 0 ? Effect.fail("deadlock" as const) : Effect.void)).pipe(
          Consumer.orDeadLetter
        ),
        pass
      )
      assert.deepStrictEqual(yield* Queue.clear(runs), ["a#1", "a#1", "a#1"])
      assert.deepStrictEqual(yield* Queue.clear(committed), ["a"])
    }).pipe(
      Effect.provide(layerOver(() => ({}), { inbox: () => ({ isInfrastructure: (error) => error === "deadlock" }) }))
    )
  )

  it.effect("that a handler meets as it publishes are the store's too", () =>
    Effect.gen(function* () {
      const [runs, committed] = yield* queues
      yield* Producer.publish(Notes, note("a"))
      yield* during(
        Consumer.make(Notes, {
          group: "readers",
          handler: (_, envelope) => Effect.andThen(Queue.offer(runs, seen(envelope)), Producer.publish(Out, "x"))
        }).pipe(Consumer.orDeadLetter),
        pass
      )
      assert.deepStrictEqual(yield* Queue.clear(runs), ["a#1", "a#1"])
      assert.deepStrictEqual(yield* letters(), [])
      yield* Queue.clear(committed)
    }).pipe(
      Effect.provide(
        (() => {
          let failures = 1
          return layerOver(() => ({}), {
            outbox: () => ({
              savepoint: Effect.suspend(() =>
                failures-- > 0 ? Effect.fail(storeFailure(new Unavailable({ detail: "down" }))) : Effect.undefined
              )
            })
          })
        })()
      )
    )
  )

  for (const reason of [
    new Unavailable({ detail: "another broker" }),
    new Unauthorized({ detail: "another broker" })
  ]) {
    it.effect(`of another transport, which a handler fails with, are the handler's: ${reason._tag}`, () =>
      Effect.gen(function* () {
        const [runs, committed] = yield* queues
        yield* Producer.publishAll(Notes, [note("a"), note("b")])
        yield* during(
          recording(runs, committed, ({ id }) => (id === "a" ? Effect.fail(storeFailure(reason)) : Effect.void)).pipe(
            Consumer.deadLetter("TransportError")
          ),
          pass
        )
        assert.deepStrictEqual(yield* Queue.clear(committed), ["b"])
        assert.deepStrictEqual(
          (yield* letters()).map(({ attempts, record }) => [record.id, attempts]),
          [["a", 1]]
        )
        assert.strictEqual(yield* lag("notes", "readers"), 0)
      }).pipe(Effect.provide(Surety.layerMemory))
    )
  }

  it.effect("in which the transaction was aborted are the attempt's", () =>
    Effect.gen(function* () {
      const [runs, committed] = yield* queues
      yield* Producer.publish(Notes, note("a"))
      yield* during(
        recording(runs, committed, () => Effect.void, { defectRetry: Schedule.recurs(1) }),
        pass
      )
      const [letter] = yield* letters()
      assert.strictEqual(letter!.failure.tag, "TransportError")
      assert.deepStrictEqual(yield* Queue.clear(committed), [])
    }).pipe(
      Effect.provide(
        layerOver(() => ({}), {
          outbox: () => ({}),
          inbox: (real) => {
            let settles = 0
            return {
              transaction: ((holder, body) =>
                real.transaction(
                  holder,
                  Effect.andThen(
                    body,
                    Effect.suspend(() =>
                      settles++ === 0
                        ? Effect.fail(storeFailure(new TransactionFailed({ detail: "aborted" })))
                        : Effect.void
                    )
                  )
                )) as typeof real.transaction
            }
          }
        })
      )
    )
  )
})

describe("a worker that was paused for longer than its lease", () => {
  it.effect("commits nothing: its successor's transaction is the one that counts", () =>
    Effect.gen(function* () {
      const store = yield* MemoryStore.MemoryStore
      yield* Effect.gen(function* () {
        const [runs, committed] = yield* queues
        const resume = yield* Deferred.make<void>()
        yield* during(
          recording(runs, committed, () => Deferred.await(resume)),
          Effect.gen(function* () {
            yield* Producer.publish(Notes, note("a"))
            yield* takeN(runs, 1)
            // Another process takes the partition over, and does not get far.
            takeOver(store.groups.get(groupKey("notes", "readers"))!.cursors[0]!, {}, 0)
            yield* Deferred.succeed(resume, undefined)
            yield* quiet
            assert.deepStrictEqual(yield* Queue.clear(committed), [])
            yield* TestClock.adjust("20 seconds")
            assert.deepStrictEqual(yield* takeN(runs, 1), ["a#2"])
            assert.deepStrictEqual(yield* takeN(committed, 1), ["a"])
          })
        )
        assert.strictEqual(yield* lag("notes", "readers"), 0)
      }).pipe(Effect.provide(layerNode({ alive: true })))
    }).pipe(Effect.provide(MemoryStore.layer))
  )
})
