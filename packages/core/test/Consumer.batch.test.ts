/** Handlers that take several messages at once. */
import { assert, describe, it } from "@effect/vitest"
import { Codec, Consumer, type Envelope, Producer, Surety, Topic } from "@surety/core"
import { Effect, Queue, Schedule, Schema } from "effect"
import { TestClock } from "effect/testing"
import { Broken, Busy, during, lag, letters, type Note, note, notes, quiet, takeN } from "./support.ts"

const ids = (messages: ReadonlyArray<Envelope.Envelope<unknown>>) => messages.map(({ id }) => id)
const many = (count: number, key?: string) => Array.from({ length: count }, (_, index) => note(`${index}`, key))

for (const guarantee of ["at-most-once", "at-least-once", "exactly-once"] as const) {
  const Notes = notes(guarantee)

  describe(`batches, ${guarantee}`, () => {
    it.effect("have at most maxSize messages, in order", () =>
      Effect.gen(function* () {
        const batches = yield* Queue.unbounded<ReadonlyArray<string>>()
        yield* Producer.publishAll(Notes, many(7, "key"))
        yield* during(
          Consumer.makeBatch(Notes, {
            group: "readers",
            maxSize: 3,
            handler: (messages) => Queue.offer(batches, ids(messages))
          }),
          Effect.gen(function* () {
            assert.deepStrictEqual(yield* takeN(batches, 3), [["0", "1", "2"], ["3", "4", "5"], ["6"]])
          })
        )
        assert.strictEqual(yield* lag("notes", "readers"), 0)
      }).pipe(Effect.provide(Surety.layerMemory))
    )

    it.effect("wait for maxWait to be full, and no longer", () =>
      Effect.gen(function* () {
        const batches = yield* Queue.unbounded<ReadonlyArray<string>>()
        yield* during(
          Consumer.makeBatch(Notes, {
            group: "readers",
            maxSize: 3,
            maxWait: "10 seconds",
            handler: (messages) => Queue.offer(batches, ids(messages))
          }),
          Effect.gen(function* () {
            yield* Producer.publish(Notes, note("a"))
            yield* quiet
            yield* TestClock.adjust("9 seconds")
            yield* Producer.publish(Notes, note("b"))
            yield* quiet
            assert.strictEqual(yield* Queue.size(batches), 0)
            yield* TestClock.adjust("1 second")
            assert.deepStrictEqual(yield* Queue.take(batches), ["a", "b"])
            // Full: at once.
            yield* Producer.publishAll(Notes, many(3))
            assert.deepStrictEqual(yield* Queue.take(batches), ["0", "1", "2"])
          })
        )
      }).pipe(Effect.provide(Surety.layerMemory))
    )

    it.effect("with an invalid maxSize are refused", () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(
          Consumer.run(Consumer.makeBatch(Notes, { group: "readers", maxSize: 0, handler: () => Effect.void }))
        )
        assert.include(error.message, "maxSize is 0")
      }).pipe(Effect.provide(Surety.layerMemory))
    )
  })
}

for (const guarantee of ["at-least-once", "exactly-once"] as const) {
  const Notes = notes(guarantee)

  describe(`a poison message in a batch, ${guarantee}`, () => {
    it.effect("is found in few steps, has its own retries and disposition, and holds no other back", () =>
      Effect.gen(function* () {
        const handled: Array<string> = []
        let runs = 0
        yield* Producer.publishAll(Notes, many(64))
        yield* during(
          Consumer.makeBatch(Notes, {
            group: "readers",
            maxSize: 64,
            handler: (messages) => {
              runs++
              if (messages.some(({ id }) => id === "13")) return new Broken()
              handled.push(...ids(messages))
              return Effect.void
            }
          }).pipe(Consumer.retry(Schedule.spaced("1 second").pipe(Schedule.upTo({ times: 2 }))), Consumer.orDeadLetter),
          Effect.gen(function* () {
            for (let second = 0; second < 3; second++) {
              yield* quiet
              yield* TestClock.adjust("1 second")
            }
            yield* quiet
          })
        )
        // Halved from 64 to 1 beside the innocent halves, and tried twice more.
        assert.strictEqual(runs, 1 + 2 * 6 + 2)
        assert.deepStrictEqual(
          handled.sort(),
          ids(many(64) as never)
            .filter((id) => id !== "13")
            .sort()
        )
        assert.deepStrictEqual(
          (yield* letters()).map(({ attempts, record }) => [record.id, attempts]),
          [["13", 3]]
        )
        assert.strictEqual(yield* lag("notes", "readers"), 0)
      }).pipe(Effect.provide(Surety.layerMemory))
    )

    it.effect("keeps the order of its key, retried in place or kept aside", () =>
      Effect.gen(function* () {
        for (const delay of ["1 second", "1 hour"] as const) {
          const handled = yield* Queue.unbounded<string>()
          const group = `readers-${delay.replace(" ", "-")}`
          yield* Producer.publishAll(Notes, [
            note(`a1 ${delay}`, "a"),
            note(`b1 ${delay}`, "b"),
            note(`a2 ${delay}`, "a"),
            note(`a3 ${delay}`, "a")
          ])
          yield* during(
            Consumer.makeBatch(Notes, {
              group,
              startFrom: "earliest",
              handler: (messages: ReadonlyArray<Envelope.Envelope<Note>>) =>
                Effect.gen(function* () {
                  if (messages.some(({ attempt, id }) => id === `a1 ${delay}` && attempt === 1)) {
                    return yield* new Busy({ wait: 0 })
                  }
                  yield* Queue.offerAll(handled, ids(messages))
                })
            }).pipe(Consumer.retry(Schedule.spaced(delay)), Consumer.orDeadLetter),
            Effect.gen(function* () {
              yield* quiet
              yield* TestClock.adjust(delay)
              yield* quiet
            })
          )
          const order = (yield* Queue.clear(handled)).filter((id) => id.endsWith(delay))
          assert.deepStrictEqual(
            order.filter((id) => id.startsWith("a")),
            [`a1 ${delay}`, `a2 ${delay}`, `a3 ${delay}`]
          )
          assert.include(order, `b1 ${delay}`)
          assert.strictEqual(yield* lag("notes", group), 0)
        }
      }).pipe(Effect.provide(Surety.layerMemory))
    )
  })
}

describe("batches", () => {
  it.effect("at-most-once that fail are not handled again, in no part", () =>
    Effect.gen(function* () {
      const Notes = notes("at-most-once")
      let runs = 0
      yield* during(
        Consumer.makeBatch(Notes, {
          group: "readers",
          maxWait: "1 second",
          handler: () => {
            runs++
            return new Broken()
          }
        }).pipe(Consumer.orDeadLetter),
        Effect.gen(function* () {
          yield* Producer.publishAll(Notes, many(5))
          yield* quiet
          yield* TestClock.adjust("1 minute")
          yield* quiet
        })
      )
      assert.strictEqual(runs, 1)
      assert.lengthOf(yield* letters(), 5)
    }).pipe(Effect.provide(Surety.layerMemory))
  )

  for (const guarantee of ["at-least-once", "exactly-once"] as const) {
    it.effect(`${guarantee} leave out what does not decode`, () =>
      Effect.gen(function* () {
        const Texts = Topic.make("texts", { schema: Schema.String, guarantee, id: (text) => text, partitions: 1 })
        const handled: Array<string> = []
        const odd: Codec.Codec = { ...Codec.json, encode: () => new Uint8Array([0xff]) }
        yield* Producer.publish(Texts, "fine")
        yield* Producer.publish(Texts, "odd").pipe(Effect.provide(Codec.layer(odd)))
        yield* Producer.publish(Texts, "fine too")
        yield* during(
          Consumer.makeBatch(Texts, {
            group: "readers",
            handler: (messages) => Effect.sync(() => handled.push(...messages.map(({ payload }) => payload)))
          }),
          quiet
        )
        assert.deepStrictEqual(handled, ["fine", "fine too"])
        assert.deepStrictEqual(
          (yield* letters()).map(({ attempts, record }) => [record.id, attempts]),
          [["odd", 0]]
        )
      }).pipe(Effect.provide(Surety.layerMemory))
    )
  }

  it.effect("exactly-once are one transaction, without the duplicates in them", () =>
    Effect.gen(function* () {
      const Notes = notes("exactly-once")
      const Replies = Topic.make("replies", {
        schema: Schema.String,
        guarantee: "exactly-once",
        id: (text) => text,
        partitions: 1
      })
      const replies = yield* Queue.unbounded<string>()
      let failures = 0
      yield* Producer.publishAll(Notes, [...many(4), ...many(6)])
      yield* during(
        Consumer.make(Replies, { group: "readers", handler: (text) => Queue.offer(replies, text) }),
        during(
          Consumer.makeBatch(Notes, {
            group: "readers",
            handler: (messages) =>
              Effect.gen(function* () {
                yield* Producer.publish(Replies, ids(messages).join(" "))
                if (failures++ === 0 && messages.length > 3) return yield* new Broken()
              })
          }).pipe(Consumer.orDeadLetter),
          Effect.gen(function* () {
            assert.deepStrictEqual(yield* takeN(replies, 2), ["0 1 2 3", "4 5"])
            yield* quiet
            assert.strictEqual(yield* Queue.size(replies), 0)
          })
        )
      )
    }).pipe(Effect.provide(Surety.layerMemory))
  )
})
