/** Waits until everything that was published is settled. */
import type { Topic } from "@surety/core"
import { Config, Duration, Effect, Schedule, Schema, Stream } from "effect"
import { lag } from "../support/untilSettled.ts"

/** Nothing moves any more, or the database is gone: what came of the deliveries cannot be told. */
export class Stalled extends Schema.TaggedError<Stalled>()("Stalled", { detail: Schema.String }) {
  override get message(): string {
    return `What came of the deliveries cannot be told: ${this.detail}`
  }
}

/** How long nothing may move. */
export const patience = Config.Duration("WEBHOOK_PATIENCE").pipe(Config.withDefault(Duration.seconds(30)))

/** Completes once the group has settled every message of the topic; fails when that comes no closer for too long. */
export const settled = Effect.fn("Webhooks.settled")(function* (topic: Topic.Any, group: string) {
  const limit = yield* patience
  let last = "no consumer has joined"
  const look = lag(topic, group).pipe(
    Effect.tap((n) =>
      Effect.sync(() => {
        last = `${n} messages of ${topic.name} are not settled`
      })
    ),
    Effect.tapError((error) =>
      Effect.sync(() => {
        last = error.message
      })
    ),
    Effect.retry(Schedule.spaced("100 millis"))
  )
  yield* Stream.fromEffectSchedule(look, Schedule.spaced("100 millis")).pipe(
    Stream.changes,
    Stream.timeoutOrElse({
      duration: limit,
      orElse: () => Stream.fail(new Stalled({ detail: `nothing has moved for ${Duration.format(limit)}, and ${last}` }))
    }),
    Stream.takeUntil((n) => n === 0),
    Stream.runDrain
  )
})
