/** Time, as it passes. */
import { Effect, Schedule } from "effect"

/** How many milliseconds it takes. */
export const timed = <E, R>(effect: Effect.Effect<unknown, E, R>): Effect.Effect<number, E, R> =>
  Effect.suspend(() => {
    const start = performance.now()
    return Effect.map(effect, () => performance.now() - start)
  })

export const perSecond = (count: number, millis: number): number => (count * 1000) / millis

/** Asks again and again, and returns once it is so. */
export const until = <E, R>(effect: Effect.Effect<boolean, E, R>) =>
  Effect.repeat(effect, { until: (done) => done, schedule: Schedule.spaced("2 millis") })
