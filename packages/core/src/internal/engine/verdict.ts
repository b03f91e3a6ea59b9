/** What a handler decides about its own message, past the consumer's rules: as defects, so that no error type has to name them. */
import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"

export class Rejected extends Error {
  readonly _tag = "Rejected"
}

export class RetryAfter extends Error {
  readonly _tag = "RetryAfter"
  readonly delay: Duration.Duration
  constructor(delay: Duration.Duration) {
    super("the handler asked to be run again later")
    this.delay = delay
  }
}

export const verdictOf = (cause: Cause.Cause<unknown>): Rejected | RetryAfter | undefined => {
  for (const reason of cause.reasons) {
    if (!Cause.isDieReason(reason)) continue
    if (reason.defect instanceof Rejected || reason.defect instanceof RetryAfter) return reason.defect
  }
  return undefined
}
