import { assert, describe, it } from "@effect/vitest"
import { Cron, Duration, Effect, Result, Schedule, Schema } from "effect"
import { TestClock } from "effect/testing"
import { describe as explained } from "../src/internal/explain/schedule.ts"

const none = { delays: [], times: null, total: null, jittered: false }

describe("a schedule, as it is explained", () => {
  it.effect("by its delays, how often, and for how long", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* explained(Schedule.exponential("50 millis").pipe(Schedule.upTo({ times: 7 }))), {
        delays: [50, 100, 200, 400, 800],
        times: 7,
        total: 6350,
        jittered: false,
        dependsOn: null
      })
      assert.deepStrictEqual(
        yield* explained(Schedule.spaced("3 seconds").pipe(Schedule.upTo({ duration: "10 seconds" }))),
        {
          delays: [3000, 3000, 3000, 3000],
          times: 4,
          total: 12_000,
          jittered: false,
          dependsOn: null
        }
      )
      assert.deepInclude(yield* explained(Schedule.forever.pipe(Schedule.upTo({ times: 0 }))), { delays: [], times: 0 })
    })
  )

  it.effect.prop(
    "to its end, however many steps it has, up to a hundred",
    {
      millis: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 100_000 })),
      times: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 99 })),
      jittered: Schema.Boolean
    },
    ({ jittered, millis, times }) =>
      Effect.gen(function* () {
        const spaced = Schedule.spaced(millis).pipe(Schedule.upTo({ times }))
        assert.deepStrictEqual(yield* explained(jittered ? Schedule.jittered(spaced) : spaced), {
          delays: new Array(Math.min(times, 5)).fill(millis),
          times,
          total: times * millis,
          jittered: jittered && times > 0,
          dependsOn: null
        })
      })
  )

  it.effect("as one that is not known to end, where it goes on", () =>
    Effect.gen(function* () {
      for (const schedule of [
        Schedule.spaced("1 second"),
        Schedule.spaced("1 second").pipe(Schedule.upTo({ times: 101 }))
      ]) {
        assert.deepStrictEqual(yield* explained(schedule), {
          ...none,
          delays: [1000, 1000, 1000, 1000, 1000],
          dependsOn: null
        })
      }
    })
  )

  it.effect("without a guess, where it looks at the failure", () =>
    Effect.gen(function* () {
      const byFailure: ReadonlyArray<Schedule.Schedule<unknown, any>> = [
        Schedule.spaced("1 second").pipe(Schedule.while(({ input }: { input: any }) => input._tag === "Busy")),
        Schedule.spaced("1 second").pipe(Schedule.while(({ input }: { input: any }) => !("fatal" in input))),
        Schedule.spaced("1 second").pipe(Schedule.while(({ input }: { input: unknown }) => input instanceof Error)),
        Schedule.spaced("1 second").pipe(Schedule.while(({ input }: { input: any }) => input.reason.code === 1)),
        Schedule.identity<any>().pipe(
          Schedule.modifyDelay(({ output }) => Effect.succeed(Duration.seconds((output as any).wait)))
        )
      ]
      for (const schedule of byFailure) {
        assert.deepStrictEqual(yield* explained(schedule), { ...none, dependsOn: "failure" })
      }
    })
  )

  it.effect("without a guess, where it goes by the calendar", () =>
    Effect.gen(function* () {
      const nightly = Result.getOrThrow(Cron.parse("0 4 * * *"))
      for (const time of [0, 1_700_000_000_000]) {
        yield* TestClock.setTime(time)
        assert.deepStrictEqual(yield* explained(Schedule.cron(nightly)), { ...none, dependsOn: "time" })
      }
    })
  )

  it.effect("without a guess, where it fails", () =>
    Effect.gen(function* () {
      const failing = Schedule.spaced("1 second").pipe(Schedule.while(() => Effect.die("no")))
      assert.deepStrictEqual(yield* explained(failing), { ...none, dependsOn: "unknown" })
    })
  )

  it.effect("without waiting", () =>
    Effect.gen(function* () {
      // Under a clock that does not move, a schedule that was slept for would never end.
      assert.strictEqual((yield* explained(Schedule.spaced("1 day").pipe(Schedule.upTo({ times: 50 })))).times, 50)
    })
  )
})
