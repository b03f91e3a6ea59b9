/** What a schedule does, found by stepping it, without waiting. What depends on a failure or on the time is not guessed. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Pull from "effect/Pull"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import type { Retries } from "../../Explain.ts"

type AnySchedule<R> = Schedule.Schedule<unknown, any, unknown, R>

/** A schedule that goes on for more steps than this is not known to end. */
const maxSteps = 100
const shown = 5

/** Stands for a failure, and notices when a schedule looks at it. */
const makeInput = (): { readonly input: unknown; readonly seen: () => boolean } => {
  let seen = false
  const look = <A>(found: A): A => {
    seen = true
    return found
  }
  const input = new Proxy(
    {},
    {
      get: () => look(undefined),
      has: () => look(false),
      getPrototypeOf: () => look(null),
      ownKeys: () => look([]),
      getOwnPropertyDescriptor: () => look(undefined)
    }
  )
  return { input, seen: () => seen }
}

interface Walk {
  readonly delays: ReadonlyArray<number>
  readonly ended: boolean
}

/** The delays of a schedule that begins at `start`, with one number for all that is random; undefined when it fails. */
const walk = <R>(schedule: AnySchedule<R>, input: unknown, start: number, random: number) =>
  Effect.gen(function* () {
    const step = yield* Schedule.toStep(schedule)
    const delays: Array<number> = []
    let now = start
    while (delays.length < maxSteps) {
      const delay = yield* Pull.catchDone(
        Effect.map(step(now, input), ([, delay]) => Duration.toMillis(delay)),
        () => Effect.undefined
      )
      if (delay === undefined) return { delays, ended: true }
      delays.push(delay)
      now += delay
    }
    return { delays, ended: false }
  }).pipe(
    Effect.provideService(Random.Random, { nextIntUnsafe: () => 0, nextDoubleUnsafe: () => random }),
    Effect.exit,
    Effect.map((exit): Walk | undefined => (Exit.isSuccess(exit) ? exit.value : undefined))
  )

const equal = (a: Walk, b: Walk): boolean =>
  a.ended === b.ended && a.delays.length === b.delays.length && a.delays.every((delay, i) => delay === b.delays[i])

const unknown = (dependsOn: Retries["dependsOn"]): Retries => ({
  delays: [],
  times: null,
  total: null,
  jittered: false,
  dependsOn
})

export const describe = Effect.fnUntraced(function* <R>(schedule: AnySchedule<R>): Effect.fn.Return<Retries, never, R> {
  const { input, seen } = makeInput()
  const now = yield* Clock.currentTimeMillis
  // In the middle of its range, a jittered delay is the one that the jitter is around.
  const middle = yield* walk(schedule, input, now, 0.5)
  if (seen()) return unknown("failure")
  if (middle === undefined) return unknown("unknown")
  // Eleven hours and some: neither the same second, minute, hour, nor day part.
  const later = yield* walk(schedule, input, now + 41_234_567, 0.5)
  if (later === undefined || !equal(middle, later)) return unknown("time")
  const high = yield* walk(schedule, input, now, 0.9)
  return {
    delays: middle.delays.slice(0, shown),
    times: middle.ended ? middle.delays.length : null,
    total: middle.ended ? middle.delays.reduce((sum, delay) => sum + delay, 0) : null,
    jittered: high === undefined || !equal(middle, high),
    dependsOn: null
  }
})
