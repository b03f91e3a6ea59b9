import * as Effect from "effect/Effect"
import type * as Schedule from "effect/Schedule"
import type { TransportError } from "../TransportError.ts"

/** Repeats what failed for now. The schedule is set up by the first failure: what succeeds at once pays nothing for it. */
export const retryTransport = <A, R>(
  effect: Effect.Effect<A, TransportError, R>,
  schedule: Schedule.Schedule<unknown, TransportError>
): Effect.Effect<A, TransportError, R> =>
  Effect.catch(effect, (error) => {
    if (!error.isRetryable) return Effect.fail(error)
    let first: TransportError | undefined = error
    const again = Effect.suspend(() => {
      if (first === undefined) return effect
      const failed = Effect.fail(first)
      first = undefined
      return failed
    })
    return Effect.retry(again, { schedule, while: ({ isRetryable }) => isRetryable })
  })
