/** Invariant 15: an inbox that forgets while a message may still come again is refused, with the figures. */
import { assert, describe, it } from "@effect/vitest"
import { Acks, AtLeastOnce, ExactlyOnce, Inbox, MemoryStore, Outbox, Surety, Transport } from "@surety/core"
import { Effect, Layer, Schedule } from "effect"

const retaining = (retention: MemoryStore.Options["retention"], lease?: MemoryStore.Options["lease"]) =>
  Layer.provide(MemoryStore.options({ retention, lease }))

const accepted = <A, E>(layer: Layer.Layer<A, E>) => Effect.asVoid(Effect.scoped(Layer.build(layer)))
const refused = <A, E extends { readonly message: string }>(layer: Layer.Layer<A, E>) =>
  Effect.map(Effect.flip(accepted(layer)), ({ message }) => message)

const memory = Surety.layerMemory

/** The parts, with another transport, acknowledgements or at-least-once. */
const over = (options: {
  readonly transport?: (real: Transport.Transport["Service"]) => Partial<Transport.Transport["Service"]>
  readonly atLeastOnce?: Layer.Layer<AtLeastOnce, never, Transport.Transport | Acks.Acks>
  readonly ackTimeout?: "5 seconds" | "1 minute"
}) =>
  ExactlyOnce.layer.pipe(
    Layer.provide(options.atLeastOnce ?? AtLeastOnce.layer),
    Layer.provide([
      Layer.effect(
        Transport.Transport,
        Effect.map(Transport.Transport, (real) => ({ ...real, ...options.transport?.(real) }))
      ).pipe(Layer.provide(Transport.layerMemory)),
      Acks.layer({ level: "all", timeout: options.ackTimeout ?? "5 seconds" }),
      Inbox.layerMemory,
      Outbox.layerMemory
    ])
  )

describe("an inbox that remembers forever", () => {
  it.effect("is accepted over whatever is unlimited, or not declared", () =>
    Effect.gen(function* () {
      yield* accepted(memory)
      yield* accepted(memory.pipe(retaining({ inbox: "forever", log: "forever" })))
      yield* accepted(over({ transport: () => ({ bounds: undefined }) }))
      yield* accepted(over({ atLeastOnce: AtLeastOnce.layerWith({ retry: Schedule.forever }) }))
    })
  )
})

describe("an inbox that forgets", () => {
  it.effect("is accepted from the longest redelivery on, and refused below it, with the figures", () =>
    Effect.gen(function* () {
      // 1 hour of the log, 15 seconds of lease, 70 seconds of repeats and 5 of their acknowledgement.
      const longest = 3_600_000 + 15_000 + 75_000
      yield* accepted(memory.pipe(retaining({ inbox: longest, log: "1 hour" })))
      assert.strictEqual(
        yield* refused(memory.pipe(retaining({ inbox: longest - 1000, log: "1 hour" }))),
        "exactly-once cannot be made of these layers: the inbox remembers for 1h 1m 29s what was settled, " +
          "and a message may come again 1h 1m 30s later: " +
          "1h (retention of the memory transport's log, from which a message can be read again) + " +
          "15s (lease, after which a silent worker's messages come again) + " +
          "1m 15s (repeats of a publish, and the last one's acknowledgement). " +
          "Let the inbox remember for at least so long, or forever, or lower the others"
      )
    })
  )

  it.effect("every part counts", () =>
    Effect.gen(function* () {
      const inbox = "10 minutes"
      yield* accepted(memory.pipe(retaining({ inbox, log: "8 minutes" })))
      assert.include(yield* refused(memory.pipe(retaining({ inbox, log: "9 minutes" }))), "10m 30s later: 9m (")
      assert.include(
        yield* refused(memory.pipe(retaining({ inbox, log: "8 minutes" }, "1 minute"))),
        "10m 15s later: 8m (retention of the memory transport's log, from which a message can be read again) + 1m (lease"
      )
      const slow = AtLeastOnce.layerWith({ retry: Schedule.forever, repeatsFor: "3 minutes" })
      assert.include(
        yield* refused(over({ atLeastOnce: slow }).pipe(retaining({ inbox, log: "8 minutes" }))),
        "+ 3m 5s ("
      )
      assert.include(
        yield* refused(over({ ackTimeout: "1 minute" }).pipe(retaining({ inbox, log: "8 minutes" }))),
        "+ 2m 10s ("
      )
    })
  )

  it.effect("is refused over a log that is kept forever", () =>
    Effect.gen(function* () {
      assert.strictEqual(
        yield* refused(memory.pipe(retaining({ inbox: "365 days" }))),
        "exactly-once cannot be made of these layers: the inbox remembers for 365d what was settled, and nothing bounds " +
          "how late a message may come again: the memory transport's log is kept forever, and can be read again. " +
          "Bound it, or let the inbox remember forever"
      )
    })
  )

  it.effect("is refused where a bound is not declared", () =>
    Effect.gen(function* () {
      const retention = retaining({ inbox: "365 days", log: "1 hour" })
      assert.include(
        yield* refused(over({ transport: () => ({ bounds: undefined }) }).pipe(retention)),
        "how late a message may come again: the memory transport declares no bounds. Bound"
      )
      assert.include(
        yield* refused(over({ atLeastOnce: AtLeastOnce.layerWith({ retry: Schedule.recurs(3) }) }).pipe(retention)),
        "AtLeastOnce.layerWith was given a retry without repeatsFor"
      )
    })
  )
})
