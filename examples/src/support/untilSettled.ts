/** For programs that end once their work is done; a service just runs on. */
import { type Topic, Transport } from "@surety/core"
import { Effect, Schedule } from "effect"

/** How many messages of the topic the group has not settled yet. */
export const lag = Effect.fnUntraced(function* (topic: Topic.Any, group: string) {
  const transport = yield* Transport.Transport
  const progress = yield* transport.progress(topic.name, group)
  return progress.reduce((total, partition) => total + partition.lag, 0)
})

/** Completes once the group has settled every message of the topic. */
export const untilSettled = (topic: Topic.Any, group: string) =>
  lag(topic, group).pipe(Effect.repeat({ until: (n) => n === 0, schedule: Schedule.spaced("20 millis") }))
