import { assert, describe, it } from "@effect/vitest"
import { Consumer, type Envelope, Producer, Surety } from "@surety/core"
import { Effect, Queue, Schedule } from "effect"
import { TestClock } from "effect/testing"
import { Broken, Busy, during, lag, letters, note, notes, quiet, seen } from "./support.ts"

for (const guarantee of ["at-least-once", "exactly-once"] as const) {
  const Notes = notes(guarantee)
  type Handler = (envelope: Envelope.Envelope<unknown>) => Effect.Effect<unknown, Busy | Broken>

  const make = (events: Queue.Queue<string>, handler: Handler, options: Partial<Consumer.Options<never>> = {}) =>
    Consumer.make(Notes, {
      ...options,
      group: "readers",
      handler: (_, envelope) => Effect.andThen(Queue.offer(events, seen(envelope)), handler(envelope))
    })

  /** Publishes `a` and `b`, of two keys, and returns what became of `a`. */
  const outcome = <R>(
    consumer: (events: Queue.Queue<string>) => Consumer.Consumer<any, never, R>,
    body: (events: Queue.Queue<string>) => Effect.Effect<void> = () => quiet
  ) =>
    Effect.gen(function* () {
      const events = yield* Queue.unbounded<string>()
      yield* Producer.publish(Notes, note("a", "a"))
      yield* during(consumer(events), body(events))
      const attempts = yield* Queue.clear(events)
      const [letter, ...others] = yield* letters()
      assert.deepStrictEqual(others, [])
      return { attempts, letter, lag: yield* lag("notes", "readers") }
    }).pipe(Effect.provide(Surety.layerMemory))

  const always = (error: Busy | Broken) => (): Effect.Effect<never, Busy | Broken> => Effect.fail(error)
  const twice = Schedule.recurs(2)

  describe(`dispositions of a consumer of an ${guarantee} topic`, () => {
    it.effect("deadLetter keeps the message whole, with its error and attempts", () =>
      Effect.gen(function* () {
        yield* TestClock.setTime(5000)
        const { attempts, lag, letter } = yield* outcome((events) =>
          make(events, always(new Broken())).pipe(Consumer.deadLetter("Broken"), Consumer.orDeadLetter)
        )
        assert.deepStrictEqual(attempts, ["a#1"])
        assert.strictEqual(lag, 0)
        assert.deepInclude(letter, { topic: "notes", group: "readers", attempts: 1, time: 5000 })
        assert.deepStrictEqual(letter!.record, {
          id: "a",
          key: "a",
          headers: { "content-type": "application/json" },
          time: 5000,
          payload: new TextEncoder().encode('{"id":"a","key":"a"}'),
          partition: 0,
          offset: 1
        })
        assert.strictEqual(letter!.failure.tag, "Broken")
        assert.include(letter!.failure.cause, "Broken")
      })
    )

    it.effect("discard settles it as if it had been handled", () =>
      Effect.gen(function* () {
        const { attempts, lag, letter } = yield* outcome((events) =>
          make(events, always(new Broken())).pipe(Consumer.discard("Broken"), Consumer.orDeadLetter)
        )
        assert.deepStrictEqual([attempts, lag, letter], [["a#1"], 0, undefined])
      })
    )

    it.effect("a tag that is not named goes to what is left of the consumer's error", () =>
      Effect.gen(function* () {
        const { letter } = yield* outcome((events) =>
          make(events, always(new Busy({ wait: 1 }))).pipe(Consumer.discard("Broken"), Consumer.orDeadLetter)
        )
        assert.strictEqual(letter!.failure.tag, "Busy")
      })
    )

    it.effect("several tags can be named at once", () =>
      Effect.gen(function* () {
        const { letter } = yield* outcome((events) =>
          make(events, always(new Busy({ wait: 1 }))).pipe(Consumer.deadLetter(["Broken", "Busy"]))
        )
        assert.strictEqual(letter!.failure.tag, "Busy")
      })
    )

    it.effect("retry by tag repeats that error alone, then decides", () =>
      Effect.gen(function* () {
        const busy = yield* outcome((events) =>
          make(events, always(new Busy({ wait: 1 }))).pipe(Consumer.retry("Busy", twice), Consumer.orDeadLetter)
        )
        assert.deepStrictEqual(busy.attempts, ["a#1", "a#2", "a#3"])
        assert.deepInclude(busy.letter, { attempts: 3 })
        const broken = yield* outcome((events) =>
          make(events, always(new Broken())).pipe(Consumer.retry("Busy", twice), Consumer.orDeadLetter)
        )
        assert.deepStrictEqual(broken.attempts, ["a#1"])
      })
    )

    it.effect("retry of all repeats every error, and a success ends it", () =>
      Effect.gen(function* () {
        const { attempts, lag, letter } = yield* outcome((events) =>
          make(events, ({ attempt }) =>
            attempt === 1 ? new Busy({ wait: 1 }) : attempt === 2 ? new Broken() : Effect.void
          ).pipe(Consumer.retry(twice), Consumer.orDeadLetter)
        )
        assert.deepStrictEqual(attempts, ["a#1", "a#2", "a#3"])
        assert.deepStrictEqual([lag, letter], [0, undefined])
      })
    )

    it.effect("a retry's delays follow its schedule, by the clock", () =>
      Effect.gen(function* () {
        const { attempts, lag } = yield* outcome(
          (events) =>
            make(events, always(new Busy({ wait: 1 }))).pipe(
              Consumer.retry(Schedule.exponential("1 second").pipe(Schedule.upTo({ times: 3 }))),
              Consumer.orDeadLetter
            ),
          (events) =>
            Effect.gen(function* () {
              for (const [i, delay] of [1000, 2000, 4000].entries()) {
                yield* quiet
                yield* TestClock.adjust(delay - 1)
                assert.strictEqual(yield* Queue.size(events), i + 1)
                yield* TestClock.adjust(1)
                assert.strictEqual(yield* Queue.size(events), i + 2)
              }
              yield* quiet
            })
        )
        assert.strictEqual(attempts.length, 4)
        assert.strictEqual(lag, 0)
      })
    )

    it.effect("a schedule may look at the error", () =>
      Effect.gen(function* () {
        const { attempts } = yield* outcome((events) =>
          make(events, ({ attempt }) => new Busy({ wait: attempt })).pipe(
            Consumer.retry(
              "Busy",
              Schedule.recurs(9).pipe(
                Schedule.setInputType<Busy>(),
                Schedule.while(({ input }) => input.wait < 3)
              )
            ),
            Consumer.orDeadLetter
          )
        )
        assert.deepStrictEqual(attempts, ["a#1", "a#2", "a#3"])
      })
    )

    for (const [name, end, tag] of [
      ["dies", Effect.die(new RangeError("boom")), "RangeError"],
      ["throws", Effect.sync((): void => JSON.parse("{")), "SyntaxError"],
      ["is interrupted from within", Effect.interrupt, "Error"]
    ] as const) {
      it.effect(`a handler that ${name} has failed an attempt: it is repeated by defectRetry, then dead-lettered`, () =>
        Effect.gen(function* () {
          const { attempts, lag, letter } = yield* outcome((events) =>
            make(events, () => end, { defectRetry: Schedule.recurs(1) }).pipe(Consumer.orDeadLetter)
          )
          assert.deepStrictEqual(attempts, ["a#1", "a#2"])
          assert.strictEqual(letter!.failure.tag, tag)
          assert.deepStrictEqual([lag, letter!.attempts], [0, 2])
        })
      )
    }

    it.effect("a handler that throws before it returns an effect has failed an attempt", () =>
      Effect.gen(function* () {
        const { letter } = yield* outcome(() =>
          Consumer.make(Notes, {
            group: "readers",
            defectRetry: Schedule.recurs(0),
            handler: (): Effect.Effect<void> => {
              throw new RangeError("boom")
            }
          })
        )
        assert.strictEqual(letter!.failure.tag, "RangeError")
      })
    )

    it.effect("a handler that hangs is interrupted after handlerTimeout, and has failed an attempt", () =>
      Effect.gen(function* () {
        const { attempts, letter } = yield* outcome(
          (events) =>
            make(
              events,
              () =>
                Effect.onInterrupt(Effect.never, () =>
                  Effect.flatMap(
                    Effect.clockWith((clock) => clock.currentTimeMillis),
                    (time) => Queue.offer(events, String(time))
                  )
                ),
              { defectRetry: Schedule.recurs(1), handlerTimeout: "3 seconds" }
            ).pipe(Consumer.orDeadLetter),
          () =>
            Effect.andThen(
              quiet,
              Effect.andThen(TestClock.adjust("3 seconds"), Effect.andThen(quiet, TestClock.adjust("3 seconds")))
            )
        )
        assert.deepStrictEqual(attempts, ["a#1", "3000", "a#2", "6000"])
        assert.strictEqual(letter!.failure.tag, "HandlerTimeout")
        assert.include(letter!.failure.message, "3s")
      })
    )

    it.effect("defects are not what the rules for errors decide", () =>
      Effect.gen(function* () {
        const { attempts, letter } = yield* outcome((events) =>
          make(events, () => Effect.die(new Broken()), { defectRetry: Schedule.recurs(0) }).pipe(
            Consumer.retry(Schedule.forever),
            Consumer.discard(["Broken", "Busy"])
          )
        )
        assert.deepStrictEqual(attempts, ["a#1"])
        assert.strictEqual(letter!.failure.tag, "Broken")
      })
    )

    it.effect("a poison message holds nothing back: later messages of its key follow", () =>
      Effect.gen(function* () {
        const events = yield* Queue.unbounded<string>()
        yield* Producer.publishAll(Notes, [note("a", "k"), note("b", "k"), note("c", "k")])
        yield* during(
          make(events, ({ id }) => (id === "a" ? new Broken() : Effect.void)).pipe(Consumer.orDeadLetter),
          quiet
        )
        const handled = (yield* Queue.clear(events)).filter((event) => event !== "a#1")
        assert.deepStrictEqual(handled.slice(-2), ["b#1", "c#1"])
        assert.strictEqual(yield* lag("notes", "readers"), 0)
      }).pipe(Effect.provide(Surety.layerMemory))
    )
  })
}
