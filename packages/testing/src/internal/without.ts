/** The in-memory backend, with some operations of its services replaced: what lacks a protection. */
import * as Acks from "@surety/core/Acks"
import * as DeadLetters from "@surety/core/DeadLetters"
import * as DelayedDelivery from "@surety/core/DelayedDelivery"
import * as Inbox from "@surety/core/Inbox"
import * as MemoryStore from "@surety/core/MemoryStore"
import * as Outbox from "@surety/core/Outbox"
import * as Transport from "@surety/core/Transport"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

export interface Without {
  readonly transport?: (real: Transport.Transport["Service"]) => Partial<Transport.Transport["Service"]>
  readonly assignment?: (
    real: Transport.Assignment,
    options: Transport.SubscribeOptions
  ) => Partial<Transport.Assignment>
  readonly inbox?: (real: Inbox.Inbox["Service"]) => Partial<Inbox.Inbox["Service"]>
  readonly outbox?: (real: Outbox.Outbox["Service"]) => Partial<Outbox.Outbox["Service"]>
  readonly deadLetters?: (
    real: DeadLetters.DeadLetters["Service"],
    store: MemoryStore.MemoryStore["Service"],
    transport: Transport.Transport["Service"]
  ) => Partial<DeadLetters.DeadLetters["Service"]>
  /** Wraps the subscribing itself. */
  readonly subscribe?: (
    real: ReturnType<Transport.Transport["Service"]["subscribe"]>
  ) => ReturnType<Transport.Transport["Service"]["subscribe"]>
}

/** The services that the guarantees are made of, with what is given in place of their own. */
export const partsWithout = ({ assignment, deadLetters, inbox, outbox, subscribe, transport }: Without) =>
  Layer.mergeAll(
    Layer.effect(
      Transport.Transport,
      Effect.map(Transport.Transport, (real) => ({
        ...real,
        subscribe: (options) =>
          Effect.map(
            subscribe === undefined ? real.subscribe(options) : subscribe(real.subscribe(options)),
            ({ next, ...rest }) => ({
              ...rest,
              next: Effect.map(next, (held) => ({ ...held, ...assignment?.(held, options) }))
            })
          ),
        ...transport?.(real)
      }))
    ).pipe(Layer.provide(Transport.layerMemory)),
    Layer.effect(
      Inbox.Inbox,
      Effect.map(Inbox.Inbox, (real) => ({ ...real, ...inbox?.(real) }))
    ).pipe(Layer.provide(Inbox.layerMemory)),
    Layer.effect(
      Outbox.Outbox,
      Effect.map(Outbox.Outbox, (real) => ({ ...real, ...outbox?.(real) }))
    ).pipe(Layer.provide(Outbox.layerMemory)),
    Layer.effect(
      DeadLetters.DeadLetters,
      Effect.gen(function* () {
        const real = yield* DeadLetters.DeadLetters
        return { ...real, ...deadLetters?.(real, yield* MemoryStore.MemoryStore, yield* Transport.Transport) }
      })
    ).pipe(Layer.provide([DeadLetters.layerMemory, MemoryStore.layer, Transport.layerMemory])),
    DelayedDelivery.layerMemory,
    Acks.layer({ level: "all" })
  )
