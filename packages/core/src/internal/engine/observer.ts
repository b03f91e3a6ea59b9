/** What the engine tells about itself: metrics always, events where someone listens. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { Diagnostics, type Event, type OfMessage, type OfPartition } from "../../Diagnostics.ts"
import * as metrics from "../metrics.ts"
import type { Item } from "./keyedQueue.ts"

type OfAnEvent = Omit<OfMessage, keyof OfPartition>

/** An event without what the observer knows. */
export type Observed = Event extends infer E ? (E extends Event ? Omit<E, "topic" | "group"> : never) : never

export class Observer {
  readonly #topic: string
  readonly #group: string
  readonly #metrics: ReturnType<typeof metrics.ofConsumer>
  readonly #context: Context.Context<never>
  readonly #diagnostics: Diagnostics["Service"] | undefined
  #inFlight = 0

  constructor(topic: string, group: string, context: Context.Context<never>) {
    this.#topic = topic
    this.#group = group
    this.#metrics = metrics.ofConsumer(topic, group)
    this.#context = context
    this.#diagnostics = Context.getOrUndefined(context as Context.Context<Diagnostics>, Diagnostics)
  }

  get inFlight(): number {
    return this.#inFlight
  }

  /** What is told of every message: rendered only where someone listens. */
  tellOf(tag: "Started" | "Handled" | "Duplicate", item: Item, epoch: number): void {
    if (tag === "Handled") this.#metrics.handled.updateUnsafe(1, this.#context)
    else if (tag === "Duplicate") this.#metrics.duplicates.updateUnsafe(1, this.#context)
    if (this.#diagnostics !== undefined) this.#emit({ _tag: tag, ...ofItem(item, epoch) })
  }

  tell(event: Exclude<Observed, { readonly _tag: "Started" | "Handled" | "Duplicate" }>): void {
    const m = this.#metrics
    switch (event._tag) {
      case "Failed":
        m.failedAttempts.updateUnsafe(1, this.#context)
        break
      case "Retrying":
        m.retries.updateUnsafe(1, this.#context)
        break
      case "Parked":
        m.redeliveries.updateUnsafe(1, this.#context)
        break
      case "Discarded":
        m.discarded.updateUnsafe(1, this.#context)
        break
      case "DeadLettered":
        m.deadLetters.updateUnsafe(1, this.#context)
        break
    }
    this.#emit(event)
  }

  #emit(event: Observed): void {
    this.#diagnostics?.emit({ ...event, topic: this.#topic, group: this.#group } as Event)
  }

  /** A handler, while it runs. */
  running<A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return Effect.suspend(() => {
      const clock = Context.get(this.#context, Clock.Clock)
      const start = clock.currentTimeNanosUnsafe()
      this.#metrics.inFlight.updateUnsafe(++this.#inFlight, this.#context)
      return Effect.ensuring(
        effect,
        Effect.sync(() => {
          this.#metrics.inFlight.updateUnsafe(--this.#inFlight, this.#context)
          this.#metrics.duration.updateUnsafe(Duration.nanos(clock.currentTimeNanosUnsafe() - start), this.#context)
        })
      )
    })
  }
}

export const ofItem = (
  { attempt, record }: Item,
  epoch: number
): OfAnEvent & Pick<OfPartition, "partition" | "epoch"> => ({
  partition: record.partition,
  epoch,
  id: record.id,
  key: record.key,
  offset: record.offset,
  attempt
})
