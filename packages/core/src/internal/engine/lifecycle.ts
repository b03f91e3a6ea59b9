/** What a consumer is doing as a whole, and whether it may. */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type { Status } from "../../Consumer.ts"

type Known = Omit<Status, "inFlight">

export class Lifecycle {
  readonly #ref: SubscriptionRef.SubscriptionRef<Known>
  /** Open while handlers may start. */
  readonly gate = Latch.makeUnsafe(true)

  private constructor(ref: SubscriptionRef.SubscriptionRef<Known>) {
    this.#ref = ref
  }

  static readonly make: Effect.Effect<Lifecycle> = Effect.map(
    SubscriptionRef.make<Known>({ state: "starting", partitions: [] }),
    (ref) => new Lifecycle(ref)
  )

  get status(): Effect.Effect<Known> {
    return SubscriptionRef.get(this.#ref)
  }

  get changes(): Stream.Stream<Known> {
    return SubscriptionRef.changes(this.#ref)
  }

  is(state: Status["state"]): Effect.Effect<void> {
    return SubscriptionRef.update(this.#ref, (known) => ({ ...known, state }))
  }

  holds(partition: number, held: boolean): Effect.Effect<void> {
    return SubscriptionRef.update(this.#ref, ({ partitions, state }) => {
      const others = partitions.filter((other) => other !== partition)
      return { state, partitions: held ? [...others, partition].sort((a, b) => a - b) : others }
    })
  }

  /** Paused is a state of one that runs. */
  pause(paused: boolean): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (paused) this.gate.closeUnsafe()
      else this.gate.openUnsafe()
      return SubscriptionRef.update(this.#ref, (known) =>
        known.state === "running" || known.state === "paused"
          ? { ...known, state: paused ? ("paused" as const) : ("running" as const) }
          : known
      )
    })
  }
}
