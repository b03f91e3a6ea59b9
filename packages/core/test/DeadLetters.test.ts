/** Dead letters: found, redriven to the group that failed, and purged. */
import { assert, describe, it } from "@effect/vitest"
import { Consumer, DeadLetters, type Guarantee, Producer, Surety } from "@surety/core"
import { Effect, Option, Queue } from "effect"
import { TestClock } from "effect/testing"
import { Broken, during, lag, letters, note, notes, quiet, seen, takeN } from "./support.ts"

/** Fails on what is broken, until it is mended. */
const fragile = (
  guarantee: Exclude<Guarantee.Name, "exactly-once-kafka">,
  handled: Queue.Queue<string>,
  broken: Set<string>,
  group = "readers"
) =>
  Consumer.make(notes(guarantee), {
    group,
    handler: ({ id }, envelope) =>
      Effect.suspend(() => (broken.has(id) ? new Broken() : Queue.offer(handled, `${group} ${seen(envelope)}`)))
  }).pipe(Consumer.orDeadLetter)

const service = DeadLetters.DeadLetters

for (const guarantee of ["at-most-once", "at-least-once", "exactly-once"] as const) {
  const Notes = notes(guarantee)

  describe(`redrive, ${guarantee}`, () => {
    it.effect("hands messages to the failing group alone, at once, with attempts from one", () =>
      Effect.gen(function* () {
        const handled = yield* Queue.unbounded<string>()
        const broken = new Set(["a", "b"])
        yield* Producer.publishAll(Notes, [note("a", "k"), note("b", "k"), note("c", "k")])
        yield* during(
          fragile(guarantee, handled, new Set(), "others"),
          during(
            fragile(guarantee, handled, broken),
            Effect.gen(function* () {
              assert.sameMembers(yield* takeN(handled, 4), ["readers c#1", "others a#1", "others b#1", "others c#1"])
              yield* quiet
              broken.clear()
              assert.strictEqual(yield* (yield* service).redrive({ id: "b" }), 1)
              assert.strictEqual(yield* Queue.take(handled), "readers b#1")
              assert.strictEqual(yield* (yield* service).redrive(), 1)
              assert.strictEqual(yield* Queue.take(handled), "readers a#1")
              assert.strictEqual(yield* (yield* service).redrive(), 0)
              yield* quiet
              assert.strictEqual(yield* Queue.size(handled), 0)
            })
          )
        )
        assert.deepStrictEqual(yield* letters(), [])
        assert.strictEqual(yield* lag("notes", "readers"), 0)
      }).pipe(Effect.provide(Surety.layerMemory))
    )

    it.effect("of what is still broken ends in the dead letters again", () =>
      Effect.gen(function* () {
        const handled = yield* Queue.unbounded<string>()
        const broken = new Set(["a"])
        yield* Producer.publish(Notes, note("a", "k"))
        yield* during(fragile(guarantee, handled, broken), quiet)
        const [before] = yield* letters()
        yield* (yield* service).redrive()
        assert.strictEqual(yield* lag("notes", "readers"), 1)
        yield* TestClock.adjust("1 hour")
        yield* during(fragile(guarantee, handled, broken), quiet)
        assert.deepStrictEqual(yield* letters(), [{ ...before!, time: before!.time + 3_600_000 }])
      }).pipe(Effect.provide(Surety.layerMemory))
    )
  })
}

describe("redrive", () => {
  it.effect("stays exempt from order for the next holder too, when it is kept aside again", () =>
    Effect.gen(function* () {
      const Notes = notes("at-least-once")
      const handled = yield* Queue.unbounded<string>()
      const consumer = Consumer.make(Notes, {
        group: "readers",
        handler: ({ id }, envelope) =>
          id === "bad"
            ? envelope.attempt === 1 && envelope.time === 0
              ? Consumer.retryAfter("1 day")
              : Effect.void
            : Queue.offer(handled, id)
      })
      yield* Producer.publish(Notes, note("bad", "k"))
      yield* during(fragile("at-least-once", handled, new Set(["bad"])), quiet)
      yield* (yield* service).redrive()
      yield* during(consumer, quiet)
      yield* during(
        consumer,
        Effect.gen(function* () {
          yield* Producer.publish(Notes, note("later", "k"))
          assert.strictEqual(yield* Queue.take(handled), "later")
        })
      )
      assert.strictEqual(yield* lag("notes", "readers"), 1)
    }).pipe(Effect.provide(Surety.layerMemory))
  )
})

describe("redrive, exactly-once", () => {
  it.effect("and a duplicate that was published meanwhile have one effect between them", () =>
    Effect.gen(function* () {
      const Notes = notes("exactly-once")
      const handled = yield* Queue.unbounded<string>()
      const broken = new Set(["a"])
      yield* Producer.publish(Notes, note("a", "k"))
      yield* during(fragile("exactly-once", handled, broken), quiet)
      broken.clear()
      // Settled as dead: a duplicate does not bring it back.
      yield* Producer.publish(Notes, note("a", "k"))
      yield* during(fragile("exactly-once", handled, broken), quiet)
      assert.strictEqual(yield* Queue.size(handled), 0)
      yield* (yield* service).redrive()
      yield* Producer.publish(Notes, note("a", "k"))
      yield* during(fragile("exactly-once", handled, broken), quiet)
      assert.strictEqual(yield* Queue.size(handled), 1)
      assert.strictEqual(yield* lag("notes", "readers"), 0)
    }).pipe(Effect.provide(Surety.layerMemory))
  )
})

describe("dead letters", () => {
  it.effect("are narrowed by every field of a filter, found by their place, and purged by age", () =>
    Effect.gen(function* () {
      const Notes = notes("at-least-once")
      const handled = yield* Queue.unbounded<string>()
      const deadLetters = yield* service
      yield* Producer.publish(Notes, note("early"))
      yield* during(fragile("at-least-once", handled, new Set(["early"])), quiet)
      yield* TestClock.adjust("1 day")
      yield* Producer.publish(Notes, note("late"))
      yield* during(fragile("at-least-once", handled, new Set(["late"])), quiet)

      const ids = (filter: DeadLetters.Filter) =>
        Effect.map(letters(filter), (found) => found.map(({ record }) => record.id))
      assert.deepStrictEqual(yield* ids({}), ["early", "late"])
      assert.deepStrictEqual(yield* ids({ id: "late" }), ["late"])
      assert.deepStrictEqual(yield* ids({ tag: "Broken" }), ["early", "late"])
      assert.deepStrictEqual(yield* ids({ tag: "Other" }), [])
      assert.deepStrictEqual(yield* ids({ topic: "notes", group: "nobody" }), [])
      assert.deepStrictEqual(yield* ids({ before: 1000 }), ["early"])

      const place = { topic: "notes", group: "readers", partition: 0, offset: 2 }
      assert.strictEqual(Option.getOrThrow(yield* deadLetters.get(place)).record.id, "late")
      assert.isTrue(Option.isNone(yield* deadLetters.get({ ...place, offset: 3 })))

      assert.strictEqual(yield* deadLetters.purge({ before: 1000 }), 1)
      assert.deepStrictEqual(yield* ids({}), ["late"])
    }).pipe(Effect.provide(Surety.layerMemory))
  )
})
