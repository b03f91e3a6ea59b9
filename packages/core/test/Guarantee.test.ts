import { assert, describe, it } from "@effect/vitest"
import { Acks, AtLeastOnce, AtMostOnce, ExactlyOnce, Inbox, Outbox, Surety, Transport } from "@surety/core"
import { Effect, Layer } from "effect"

const error = <A, R>(layer: Layer.Layer<A, { readonly _tag: "CompositionError"; readonly message: string }, R>) =>
  Effect.flip(Effect.scoped(Layer.build(layer)))

describe("the guarantees", () => {
  it.effect("exactly-once is refused where the inbox and the outbox are in different stores", () =>
    Effect.gen(function* () {
      const { _tag, message } = yield* error(
        ExactlyOnce.layer.pipe(
          Layer.provide(AtLeastOnce.layer),
          Layer.provide([Transport.layerMemory, Inbox.layerMemory, Layer.fresh(Outbox.layerMemory)])
        )
      )
      assert.strictEqual(_tag, "CompositionError")
      assert.include(message, "the inbox and the outbox are in different stores")
    })
  )

  it.effect("exactly-once is refused where the transport is in another store than the inbox", () =>
    Effect.gen(function* () {
      const { message } = yield* error(
        ExactlyOnce.layer.pipe(
          Layer.provide(AtLeastOnce.layer),
          Layer.provide([Layer.fresh(Transport.layerMemory), Inbox.layerMemory, Outbox.layerMemory])
        )
      )
      assert.include(message, "the memory transport and the inbox are in different stores, and this inbox cannot keep")
    })
  )

  it.effect("are made over one transport and share it", () =>
    Effect.gen(function* () {
      const transport = yield* Transport.Transport
      for (const guarantee of [yield* AtMostOnce, yield* AtLeastOnce, yield* ExactlyOnce]) {
        assert.strictEqual(guarantee.transport, transport)
      }
      assert.strictEqual((yield* ExactlyOnce).confirmation, (yield* AtLeastOnce).confirmation)
      assert.isUndefined((yield* AtMostOnce).confirmation)
      assert.isUndefined((yield* AtLeastOnce).unit)
    }).pipe(Effect.provide(Surety.layerMemory))
  )

  it.effect("of the same layers in one app share one store, in two apps none", () =>
    Effect.gen(function* () {
      const store = Effect.map(Transport.Transport, ({ store }) => store)
      const [one, inbox] = yield* Effect.all([store, Effect.map(Inbox.Inbox, ({ store }) => store)]).pipe(
        Effect.provide(Surety.layerMemory)
      )
      assert.strictEqual(one, inbox)
      const two = yield* Effect.provide(store, Layer.fresh(Surety.layerMemory))
      assert.notStrictEqual(one, two)
    })
  )

  it.effect("at-least-once takes over the ack timeout", () =>
    Effect.gen(function* () {
      const { confirmation } = yield* AtLeastOnce
      assert.strictEqual(confirmation.acks.level, "all")
    }).pipe(
      Effect.provide(
        AtLeastOnce.layer.pipe(
          Layer.provide([Transport.layerMemory, Acks.layer({ level: "all", timeout: "1 second" })])
        )
      )
    )
  )
})
