import { NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Latch, Layer, Redacted } from "effect"
import { HttpRouter, type HttpServerRequest, HttpServerResponse } from "effect/http"
import { TestClock } from "effect/testing"
import * as Input from "../src/webhooks/deliveries.ts"
import { send } from "../src/webhooks/sender.ts"
import { verify } from "../src/webhooks/signature.ts"
import * as Tally from "../src/webhooks/tally.ts"

const secret = Redacted.make("it is a secret")
const [delivery] = Input.make(1) as [Input.Delivery]

type Handler = (request: HttpServerRequest.HttpServerRequest) => Effect.Effect<number>

/** Sends one step to a server that answers as it is told; returns what the sender has seen. */
const sendTo = (handler: Handler, copies: 1 | 2 = 1, patience: Duration.Input = "1 hour") =>
  Effect.gen(function* () {
    const tally = yield* Tally.make
    const options = { url: "/webhooks", secret, tally, patience: Duration.fromInputUnsafe(patience) }
    yield* send([{ delivery, copies }], options)
    return { sent: tally.sent, accepted: tally.accepted.get(delivery.id) ?? 0 }
  }).pipe(
    Effect.provide(
      HttpRouter.serve(
        HttpRouter.add("POST", "/webhooks", (request: HttpServerRequest.HttpServerRequest) =>
          Effect.map(handler(request), (status) => HttpServerResponse.empty({ status }))
        ),
        { disableLogger: true, disableListenLog: true }
      ).pipe(Layer.provideMerge(NodeHttpServer.layerTest))
    )
  )

/** Answers with one status after the other. */
const answers = (...statuses: ReadonlyArray<number>): Handler => {
  const next = statuses.values()
  return () => Effect.sync(() => next.next().value!)
}

describe("the sender", () => {
  it.live("signs a delivery, and names its id and event", () =>
    Effect.gen(function* () {
      const seen = yield* sendTo((request) =>
        Effect.gen(function* () {
          const body = new Uint8Array(yield* Effect.orDie(request.arrayBuffer))
          assert.deepStrictEqual(body, delivery.body())
          assert.isTrue(verify(secret, body, request.headers["x-hub-signature-256"]))
          assert.strictEqual(request.headers["x-github-delivery"], delivery.id)
          assert.strictEqual(request.headers["x-github-event"], delivery.event)
          return 202
        })
      )
      assert.deepStrictEqual(seen, { sent: 1, accepted: 1 })
    })
  )

  it.live("sends again after a 5xx, until it is accepted", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* sendTo(answers(503, 500, 202)), { sent: 3, accepted: 1 })
    })
  )

  it.live("does not send again after a 4xx", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* sendTo(answers(401, 202)), { sent: 1, accepted: 0 })
    })
  )

  it.effect("sends again when no answer comes within 10 seconds", () =>
    Effect.gen(function* () {
      const arrived = yield* Latch.make()
      let requests = 0
      const handler = () =>
        Effect.suspend(() => (++requests === 1 ? Effect.andThen(arrived.open, Effect.never) : Effect.succeed(202)))
      const fiber = yield* Effect.forkChild(sendTo(handler))
      yield* arrived.await
      yield* TestClock.adjust("10 seconds")
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* Fiber.join(fiber), { sent: 2, accepted: 1 })
    })
  )

  it.live("sends copies at the same moment", () =>
    Effect.gen(function* () {
      const both = yield* Latch.make()
      let waiting = 0
      // Neither is answered before both are there.
      const handler = () =>
        Effect.suspend(() =>
          ++waiting === 2 ? Effect.andThen(both.open, Effect.succeed(202)) : Effect.as(both.await, 202)
        )
      assert.deepStrictEqual(yield* sendTo(handler, 2), { sent: 2, accepted: 2 })
    })
  )

  it.live("gives up, and says so, when nothing is accepted for too long", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(sendTo(() => Effect.succeed(503), 1, "300 millis"))
      assert.strictEqual(
        error.message,
        "What came of the deliveries cannot be told: the receiver has accepted nothing for 300ms"
      )
    })
  )
})
