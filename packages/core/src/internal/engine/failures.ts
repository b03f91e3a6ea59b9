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

export type Decision =
  | { readonly _tag: "Retry"; readonly delay: number }
  | { readonly _tag: "DeadLetter"; readonly failure: Failure }
  | { readonly _tag: "Discard" }
  | { readonly _tag: "Stop"; readonly cause: unknown }

type Step = (now: number, input: unknown) => Pull.Pull<readonly [unknown, Duration.Duration], unknown, unknown, any>

/** How far a message has come in its schedules. */
export interface RetryState {
  readonly steps: Map<Schedule.Schedule<any, any, any, any>, Step>
}

const tagOf = (error: unknown): string | undefined =>
  Predicate.hasProperty(error, "_tag") && typeof error._tag === "string" ? error._tag : undefined

export const failureOf = (cause: Cause.Cause<unknown>): Failure => {
  const error = Cause.squash(cause)
  return {
    tag: tagOf(error) ?? (error instanceof Error ? error.name : "Error"),
    message: error instanceof Error ? error.message : String(error),
    cause: Cause.pretty(cause)
  }
}

/** The first matching rule of a kind. */
const find = <T extends Rule["_tag"]>(rules: ReadonlyArray<Rule>, tag: string | undefined, kinds: ReadonlyArray<T>) =>
  rules.find(
    (rule): rule is Extract<Rule, { readonly _tag: T }> =>
      (kinds as ReadonlyArray<string>).includes(rule._tag) &&
      (rule.tags === undefined || (tag !== undefined && rule.tags.includes(tag)))
  )

/**
 * Decides about a failure. `failures` counts this one; a schedule that this
 * process meets at a later failure than the first is first moved to it.
 */
export const decide = Effect.fnUntraced(function* (
  rules: ReadonlyArray<Rule>,
  defectRetry: Schedule.Schedule<unknown, unknown> | undefined,
  item: { retries: RetryState | undefined; readonly failures: number },
  cause: Cause.Cause<unknown>
): Effect.fn.Return<Decision, never, any> {
  const typed = Cause.findError(cause)
  const expected = Result.isSuccess(typed)
  const error = expected ? typed.success : Cause.squash(cause)
  const tag = tagOf(error)
  const schedule = expected ? find(rules, tag, ["Retry"])?.schedule : defectRetry
  if (schedule !== undefined) {
    item.retries ??= { steps: new Map() }
    let step = item.retries.steps.get(schedule)
    const now = yield* Clock.currentTimeMillis
    let replays = 0
    if (step === undefined) {
      step = (yield* Schedule.toStep(schedule)) as Step
      item.retries.steps.set(schedule, step)
      replays = item.failures - 1
    }
    const next = yield* advance(step, now, error, replays)
    if (next !== undefined) return { _tag: "Retry", delay: Duration.toMillis(next) }
  }
  const rule = expected ? find(rules, tag, ["DeadLetter", "Discard", "Stop"]) : undefined
  switch (rule?._tag) {
    case "Discard":
      return { _tag: "Discard" }
    case "Stop":
      return { _tag: "Stop", cause: error }
    default:
      return { _tag: "DeadLetter", failure: failureOf(cause) }
  }
})

const advance = Effect.fnUntraced(function* (step: Step, now: number, error: unknown, replays: number) {
  for (let i = 0; i <= replays; i++) {
    const result = yield* Pull.catchDone(step(now, error) as any, () => Effect.undefined) as Effect.Effect<
      readonly [unknown, Duration.Duration] | undefined
    >
    if (result === undefined) return undefined
    if (i === replays) return result[1]
  }
  return undefined
})
