import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { PointFailed } from "../PointFailed.ts"

/** Says of a failure at which point it came about. */
export const failedAt =
  (point: () => string) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, PointFailed, R> =>
    Effect.catchCause(effect, (cause) =>
      Cause.hasInterruptsOnly(cause)
        ? Effect.failCause(cause as Cause.Cause<never>)
        : Effect.fail(new PointFailed({ point: point(), cause: Cause.squash(cause) }))
    )
