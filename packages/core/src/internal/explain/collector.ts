/** What layers tell of themselves when they are built to be explained, and not to run. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { Consumer, Running, Status } from "../../Consumer.ts"
import type { Delivery, Name } from "../../Guarantee.ts"
import type * as Topic from "../../Topic.ts"

export interface Collector {
  readonly consumers: Array<{
    readonly consumer: Consumer<any, any, any>
    readonly delivery: Delivery<Name>
    /** Of the layer that starts it: its schedules may need it. */
    readonly context: Context.Context<never>
  }>
  readonly published: Array<{ readonly topic: Topic.Any; readonly delivery: Delivery<Name> }>
}

export const makeCollector = (): Collector => ({ consumers: [], published: [] })

/** Present while an app is explained: nothing subscribes, publishes or connects then. */
export const CurrentCollector = Context.Reference<Collector | undefined>("@surety/core/internal/CurrentCollector", {
  defaultValue: () => undefined
})

const idle: Status = { state: "starting", partitions: [], inFlight: 0 }

/** A consumer that is explained: it joins nothing, and does nothing. */
export const notRunning: Running = {
  status: Effect.succeed(idle),
  changes: Stream.succeed(idle),
  pause: Effect.void,
  resume: Effect.void,
  obstacles: Effect.succeed([]),
  failure: Effect.never
}
