/** What becomes of a failed attempt: the consumer's rules, in their order. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import * as Pull from "effect/Pull"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type { Rule } from "../../Consumer.ts"
import type { Failure } from "../../DeadLetters.ts"
import { verdictOf } from "./verdict.ts"

export type Decision =
  | { readonly _tag: "Retry"; readonly delay: number }
  | { readonly _tag: "DeadLetter"; readonly failure: Failure }
  | { readonly _tag: "Discard" }
  | { readonly _tag: "Stop"; readonly cause: unknown }

type Step = (now: number, input: unknown) => Pull.Pull<readonly [unknown, Duration.Duration], unknown, unknown, any>

/** How far a message has come in its schedules. */
export interface RetryState {
  /** By the rule that names the schedule: two rules may share one. `ahead`: milliseconds that its clock is ahead, of delays that other processes waited for. */
  readonly steps: Map<object, { readonly step: Step; ahead: number }>
  /** Failures that an earlier process has recorded, and whose errors are forgotten. */
  readonly forgotten: number
}

const tagOf = (error: unknown): string | undefined =>
  Predicate.hasProperty(error, "_tag") && typeof error._tag === "string" ? error._tag : undefined

/** Whatever a handler may fail with, also what throws when it is looked at. */
const describe = (text: () => string): string => {
  try {
    return text()
  } catch {
    return "(cannot be shown)"
  }
}

const failureTag = (error: unknown): string =>
  describe(() => tagOf(error) ?? (error instanceof Error ? error.name : "Error"))

/** The tag alone, where the rest need not be rendered. */
export const failureTagOf = (cause: Cause.Cause<unknown>): string => failureTag(Cause.squash(cause))

export const failureOf = (cause: Cause.Cause<unknown>): Failure => {
  const error = Cause.squash(cause)
  return {
    tag: failureTag(error),
    message: describe(() => (error instanceof Error ? error.message : String(error))),
    cause: describe(() => Cause.pretty(cause))
  }
}

/**
 * What the rules say about an error: the first disposition that names it, and
 * the first retry before that. What comes after the disposition does not
 * concern the error, whose type has left the consumer's by then.
 */
export const rulesFor = (rules: ReadonlyArray<Rule>, tag: string | undefined) => {
  let retry: Extract<Rule, { readonly _tag: "Retry" }> | undefined
  for (const rule of rules) {
    if (rule.tags !== undefined && (tag === undefined || !rule.tags.includes(tag))) continue
    if (rule._tag !== "Retry") return { retry, disposition: rule._tag }
    retry ??= rule
  }
  return { retry, disposition: undefined }
}

/**
 * Decides about a failure. `failures` counts this one; a schedule that this
 * process begins after failures that another one has recorded is first moved
 * past them.
 */
export const decide = Effect.fnUntraced(function* (
  rules: ReadonlyArray<Rule>,
  defectRetry: Schedule.Schedule<unknown, unknown> | undefined,
  item: { retries: RetryState | undefined; readonly failures: number },
  cause: Cause.Cause<unknown>
): Effect.fn.Return<Decision, never, any> {
  item.retries ??= { steps: new Map(), forgotten: item.failures - 1 }
  const verdict = verdictOf(cause)
  if (verdict?._tag === "RetryAfter" && defectRetry !== undefined) {
    return { _tag: "Retry", delay: Duration.toMillis(verdict.delay) }
  }
  if (verdict !== undefined) return { _tag: "DeadLetter", failure: failureOf(Cause.die(verdict)) }
  const typed = Cause.findError(cause)
  const expected = Result.isSuccess(typed)
  const error = expected ? typed.success : Cause.squash(cause)
  const { disposition, retry } = expected
    ? rulesFor(rules, tagOf(error))
    : { retry: defectRetry && { schedule: defectRetry }, disposition: undefined }
  if (retry !== undefined) {
    const delay = yield* nextDelay(item.retries, expected ? retry : retry.schedule, retry.schedule, error).pipe(
      Effect.catchCause((failure) =>
        Effect.as(Effect.logError("a retry schedule failed, and is taken to be over", failure), undefined)
      )
    )
    if (delay !== undefined) return { _tag: "Retry", delay: Duration.toMillis(delay) }
  }
  switch (disposition) {
    case "Discard":
      return { _tag: "Discard" }
    case "Stop":
      return { _tag: "Stop", cause: error }
    default:
      return { _tag: "DeadLetter", failure: failureOf(cause) }
  }
})

/** The schedule's next delay, or undefined when it is over. */
const nextDelay = Effect.fnUntraced(function* (
  { forgotten, steps }: RetryState,
  key: object,
  schedule: Schedule.Schedule<unknown, any, never, any>,
  error: unknown
): Effect.fn.Return<Duration.Duration | undefined, unknown, any> {
  const now = yield* Clock.currentTimeMillis
  let begun = steps.get(key)
  if (begun === undefined) {
    begun = { step: (yield* Schedule.toStep(schedule)) as Step, ahead: 0 }
    steps.set(key, begun)
    // What has been waited for since counts for schedules that are bounded by time.
    for (let i = 0; i < forgotten; i++) {
      const delay = yield* advance(begun.step, now + begun.ahead, error)
      if (delay === undefined) return undefined
      begun.ahead += Duration.toMillis(delay)
    }
  }
  return yield* advance(begun.step, now + begun.ahead, error)
})

const advance = (step: Step, now: number, error: unknown): Effect.Effect<Duration.Duration | undefined, unknown, any> =>
  Pull.catchDone(
    Effect.map(step(now, error), ([, delay]) => delay),
    () => Effect.undefined
  )
