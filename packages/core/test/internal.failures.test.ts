import { assert, describe, it } from "@effect/vitest"
import { Cause, Duration, Effect, Schedule } from "effect"
import type { Rule } from "../src/Consumer.ts"
import { type Decision, decide, failureOf, type RetryState } from "../src/internal/engine/failures.ts"
import { RetryAfter } from "../src/internal/engine/verdict.ts"
import { Broken, Busy } from "./support.ts"

const retry = (schedule: Schedule.Schedule<unknown, any>, ...tags: ReadonlyArray<string>): Rule => ({
  _tag: "Retry",
  tags: tags.length === 0 ? undefined : tags,
  schedule
})
const dispose = (_tag: "DeadLetter" | "Discard" | "Stop", ...tags: ReadonlyArray<string>): Rule => ({
  _tag,
  tags: tags.length === 0 ? undefined : tags
})

/** A message whose failures this process decides about, after `earlier` ones that another process has recorded. */
const message = (
  rules: ReadonlyArray<Rule>,
  options: { earlier?: number; defectRetry?: Schedule.Schedule<unknown> } = {}
) => {
  const item: { retries: RetryState | undefined; failures: number } = {
    retries: undefined,
    failures: options.earlier ?? 0
  }
  return (cause: Cause.Cause<unknown>): Effect.Effect<Decision> => {
    item.failures++
    return decide(rules, options.defectRetry, item, cause) as Effect.Effect<Decision>
  }
}
const busy = Cause.fail(new Busy({ wait: 1 }))
const broken = Cause.fail(new Broken())
const defect = Cause.die(new TypeError("boom"))
/** A retry by its delay; anything else by its name. */
const brief = (decision: Decision) => (decision._tag === "Retry" ? decision.delay : decision._tag)

describe("decide", () => {
  it.effect("dead-letters what no rule names", () =>
    Effect.gen(function* () {
      const fail = message([])
      assert.strictEqual(brief(yield* fail(busy)), "DeadLetter")
      assert.strictEqual(brief(yield* fail(defect)), "DeadLetter")
    })
  )

  it.effect("follows the schedule of the error's tag, then its disposition", () =>
    Effect.gen(function* () {
      const fail = message([
        retry(Schedule.exponential("1 second").pipe(Schedule.upTo({ times: 3 })), "Busy"),
        dispose("Discard", "Busy"),
        dispose("DeadLetter")
      ])
      const decisions = [yield* fail(busy), yield* fail(busy), yield* fail(busy), yield* fail(busy)]
      assert.deepStrictEqual(decisions.map(brief), [1000, 2000, 4000, "Discard"])
      assert.strictEqual(brief(yield* fail(broken)), "DeadLetter")
    })
  )

  it.effect("does not take a delay that the handler asked for as one of the schedule's", () =>
    Effect.gen(function* () {
      const asked = Cause.die(new RetryAfter(Duration.seconds(7)))
      const fail = message([retry(Schedule.exponential("1 second").pipe(Schedule.upTo({ times: 2 })), "Busy")], {
        defectRetry: Schedule.forever
      })
      const decisions = [
        yield* fail(asked),
        yield* fail(asked),
        yield* fail(busy),
        yield* fail(asked),
        yield* fail(busy)
      ]
      assert.deepStrictEqual(decisions.map(brief), [7000, 7000, 1000, 7000, 2000])
    })
  )

  it.effect("moves a schedule to the failures that an earlier process has recorded", () =>
    Effect.gen(function* () {
      const rules = [retry(Schedule.exponential("1 second").pipe(Schedule.upTo({ times: 4 })))]
      const fresh = message(rules)
      for (let i = 0; i < 2; i++) yield* fresh(busy)
      const third = brief(yield* fresh(busy))
      assert.strictEqual(third, 4000)
      assert.strictEqual(brief(yield* message(rules, { earlier: 2 })(busy)), third)
      assert.strictEqual(brief(yield* message(rules, { earlier: 4 })(busy)), "DeadLetter")
      assert.strictEqual(brief(yield* message(rules, { earlier: 400 })(busy)), "DeadLetter")
    })
  )

  it.effect("does not charge a schedule for failures of other errors", () =>
    Effect.gen(function* () {
      const fail = message([retry(Schedule.recurs(3), "Busy"), retry(Schedule.recurs(2), "Broken")])
      assert.deepStrictEqual([yield* fail(busy), yield* fail(busy)].map(brief), [0, 0])
      assert.deepStrictEqual([yield* fail(broken), yield* fail(broken), yield* fail(broken)].map(brief), [
        0,
        0,
        "DeadLetter"
      ])
    })
  )

  it.effect("keeps the places of two rules that share one schedule value apart", () =>
    Effect.gen(function* () {
      const twice = Schedule.recurs(2)
      const fail = message([retry(twice, "Busy"), retry(twice, "Broken")])
      const decisions = [
        yield* fail(busy),
        yield* fail(broken),
        yield* fail(busy),
        yield* fail(broken),
        yield* fail(busy)
      ]
      assert.deepStrictEqual(decisions.map(brief), [0, 0, 0, 0, "DeadLetter"])
    })
  )

  it.effect("never shows a schedule an error that was decided before it", () =>
    Effect.gen(function* () {
      const inputs: Array<unknown> = []
      const recording = Schedule.recurs(5).pipe(
        Schedule.while(({ input }: { readonly input: unknown }) => Effect.sync(() => inputs.push(input) > 0))
      )
      const fail = message([dispose("Discard", "Busy"), retry(recording), dispose("DeadLetter")])
      assert.strictEqual(brief(yield* fail(busy)), "Discard")
      assert.deepStrictEqual(inputs, [])
      assert.strictEqual(brief(yield* fail(broken)), 0)
      assert.isTrue(inputs.length > 0 && inputs.every((input) => input instanceof Broken))
    })
  )

  it.effect("applies the first rule that names an error", () =>
    Effect.gen(function* () {
      const fail = message([
        retry(Schedule.spaced("1 second"), "Busy"),
        retry(Schedule.spaced("2 seconds")),
        dispose("Stop", "Busy")
      ])
      assert.strictEqual(brief(yield* fail(busy)), 1000)
      assert.strictEqual(brief(yield* fail(broken)), 2000)
    })
  )

  it.effect("repeats defects and interruptions by defectRetry alone, whatever the rules say", () =>
    Effect.gen(function* () {
      const rules = [retry(Schedule.spaced("1 second")), dispose("Discard")]
      const fail = message(rules, { defectRetry: Schedule.recurs(1) })
      assert.deepStrictEqual([yield* fail(defect), yield* fail(Cause.interrupt(1))].map(brief), [0, "DeadLetter"])
      assert.strictEqual(brief(yield* message(rules)(defect)), "DeadLetter")
    })
  )

  it.effect("takes a schedule that fails itself for one that is over", () =>
    Effect.gen(function* () {
      const throwing = Schedule.recurs(5).pipe(
        Schedule.while((_: { readonly input: unknown }) => {
          throw new Error("a mistake in the schedule")
        })
      )
      assert.strictEqual(brief(yield* message([retry(throwing), dispose("Discard", "Busy")])(busy)), "Discard")
      assert.strictEqual(brief(yield* message([retry(throwing)])(busy)), "DeadLetter")
    })
  )

  it.effect("stops with the error", () =>
    Effect.gen(function* () {
      const error = new Broken()
      assert.deepStrictEqual(yield* message([dispose("Stop", "Broken")])(Cause.fail(error)), {
        _tag: "Stop",
        cause: error
      })
    })
  )

  it.effect("reads delays of any length", () =>
    Effect.gen(function* () {
      const days = Duration.toMillis("400 days")
      assert.strictEqual(brief(yield* message([retry(Schedule.spaced("400 days"))])(busy)), days)
    })
  )
})

describe("failureOf", () => {
  it("names an error by its tag, else by its name", () => {
    assert.strictEqual(failureOf(busy).tag, "Busy")
    assert.strictEqual(failureOf(defect).tag, "TypeError")
    assert.strictEqual(failureOf(defect).message, "boom")
    assert.include(failureOf(defect).cause, "boom")
    assert.deepInclude(failureOf(Cause.fail("text")), { tag: "Error", message: "text" })
  })

  it("describes anything that a handler may fail with", () => {
    class Unreadable extends Error {
      override get message(): string {
        throw new Error("no message for you")
      }
    }
    const values = [Object.create(null), new Unreadable(), null, undefined, Symbol("s"), 1n, () => 1, { toString: 1 }]
    for (const value of values) {
      for (const cause of [Cause.fail(value), Cause.die(value)]) {
        const { message, tag } = failureOf(cause)
        assert.isString(message)
        assert.isString(tag)
      }
    }
  })
})
