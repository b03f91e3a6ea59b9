/** What the parent process has seen of a run: as the sender, and as the parent of the workers. */
import { Effect, Stream, SubscriptionRef } from "effect"

export interface Tally {
  /** HTTP requests, repeated ones among them. */
  sent: number
  /** How often each delivery was answered 202, by its id. */
  readonly accepted: Map<string, number>
  /** Milliseconds from the arrival of a request to the commit of its effects. */
  readonly latencies: Array<number>
  /** Workers that were killed. */
  kills: number
  /** How many steps of the sender's plan are over. */
  readonly steps: SubscriptionRef.SubscriptionRef<number>
}

export const make: Effect.Effect<Tally> = Effect.map(SubscriptionRef.make(0), (steps) => ({
  sent: 0,
  accepted: new Map(),
  latencies: [],
  kills: 0,
  steps
}))

export const stepDone = (tally: Tally): Effect.Effect<void> => SubscriptionRef.update(tally.steps, (n) => n + 1)

/** Completes once so many steps are over. */
export const stepsDone = (tally: Tally, count: number): Effect.Effect<void> =>
  SubscriptionRef.changes(tally.steps).pipe(
    Stream.takeUntil((n) => n >= count),
    Stream.runDrain
  )
