import { NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Acks, Consumer, DeadLetters, Inbox, Outbox, Surety, Transport } from "@surety/core"
import { TransportError, Unavailable } from "@surety/core/TransportError"
import { Effect, Fiber, Latch, Layer, Redacted, Stream } from "effect"
import { HttpClient, HttpClientRequest, HttpRouter } from "effect/http"
import { TestClock } from "effect/testing"
import { untilSettled } from "../src/support/untilSettled.ts"
import * as Receiver from "../src/webhooks/receiver.ts"
import { sign } from "../src/webhooks/signature.ts"
import { Deliveries, type Delivery, eventHeader } from "../src/webhooks/topics.ts"

const secret = Redacted.make("it is a secret")

/** Serves the receiver over HTTP; guarantees are provided by the test. */
const server = HttpRouter.serve(Receiver.layer(secret), { disableLogger: true, disableListenLog: true }).pipe(
  Layer.provideMerge(NodeHttpServer.layerTest)
)

const memory = server.pipe(Layer.provideMerge(Surety.layerMemory))

/** The guarantees in memory, over a transport whose publishes are answered by the test. */
const layerPublishing = (publish: Transport.Transport["Service"]["publish"]) =>
  server.pipe(
    Layer.provideMerge(Surety.layer),
    Layer.provideMerge(
      Layer.mergeAll(
        Layer.effect(
          Transport.Transport,
          Effect.map(Transport.Transport, (transport) => ({ ...transport, publish }))
        ).pipe(Layer.provide(Transport.layerMemory)),
        Acks.layer({ level: "all" }),
        Inbox.layerMemory,
        Outbox.layerMemory
      )
    )
  )

const valid = JSON.stringify({ action: "opened", repository: { full_name: "octo/repo" }, sender: { login: "ada" } })

const bytes = (text: string) => new TextEncoder().encode(text)

interface Parts {
  readonly body: string | Uint8Array
  readonly headers: Readonly<Record<string, string | undefined>>
}

/** A delivery as GitHub sends it, but for what the test replaces; `undefined` leaves a header out. */
const post = (parts: Partial<Parts> = {}) => {
  const { body = valid, headers = {} } = parts
  const sent = typeof body === "string" ? bytes(body) : body
  const all = {
    "x-github-delivery": "delivery-1",
    "x-github-event": "issues",
    "x-hub-signature-256": sign(secret, sent),
    ...headers
  }
  const present = Object.entries(all).flatMap(([name, value]) => (value === undefined ? [] : [[name, value] as const]))
  return HttpClient.execute(
    HttpClientRequest.post("/webhooks").pipe(
      HttpClientRequest.setHeaders(present),
      HttpClientRequest.bodyUint8Array(sent, "application/json")
    )
  ).pipe(Effect.map(({ status }) => status))
}

/** What a consumer of the deliveries is given, once everything that `send` sends is settled. */
const received = <E, R>(send: Effect.Effect<ReadonlyArray<number>, E, R>) =>
  Effect.gen(function* () {
    const messages: Array<{ event: string | undefined; id: string; key: string | undefined; delivery: Delivery }> = []
    const consumer = Consumer.make(Deliveries, {
      group: "test",
      handler: (delivery, { headers, id, key }) =>
        Effect.sync(() => messages.push({ event: headers[eventHeader], id, key, delivery }))
    })
    const statuses = yield* Effect.tap(send, untilSettled(Deliveries, "test")).pipe(
      Effect.provide(Consumer.layer(consumer))
    )
    const deadLetters = yield* Stream.runCollect((yield* DeadLetters.DeadLetters).list())
    return { statuses, messages, deadLetters }
  }).pipe(Effect.provide(memory))

describe("the receiver", () => {
  it.live("accepts a signed delivery, and publishes it with its event, id and repository", () =>
    Effect.gen(function* () {
      const { messages, statuses } = yield* received(Effect.all([post()]))
      assert.deepStrictEqual(statuses, [202])
      assert.deepStrictEqual(messages, [
        {
          event: "issues",
          id: "delivery-1",
          key: "octo/repo",
          delivery: { action: "opened", repository: { full_name: "octo/repo" }, sender: { login: "ada" } }
        }
      ])
    })
  )

  it.live("accepts a delivery that comes twice at once, and it is handled once", () =>
    Effect.gen(function* () {
      const again = { headers: { "x-github-delivery": "delivery-2" } }
      const { messages, statuses } = yield* received(
        Effect.all([post(), post(), post(again)], { concurrency: "unbounded" })
      )
      assert.deepStrictEqual(statuses, [202, 202, 202])
      assert.deepStrictEqual(messages.map(({ id }) => id).sort(), ["delivery-1", "delivery-2"])
    })
  )

  it.live("keeps what the schema refuses in the dead letters, byte for byte", () =>
    Effect.gen(function* () {
      const poison = '{ "repository": null,\n  "id": 12345678901234567890, "note": "\\u00e9 é" }'
      const { deadLetters, messages, statuses } = yield* received(Effect.all([post({ body: poison })]))
      assert.deepStrictEqual(statuses, [202])
      assert.deepStrictEqual(messages, [])
      assert.strictEqual(deadLetters.length, 1)
      const [{ attempts, failure, record }] = deadLetters as [DeadLetters.DeadLetter]
      assert.deepStrictEqual(
        { tag: failure.tag, attempts, id: record.id, event: record.headers[eventHeader] },
        { tag: "DecodeFailed", attempts: 0, id: "delivery-1", event: "issues" }
      )
      assert.strictEqual(new TextDecoder().decode(record.payload), poison)
    })
  )

  it.live.each<[name: string, status: number, parts: Partial<Parts>]>([
    [
      "a signature with another secret",
      401,
      { headers: { "x-hub-signature-256": sign(Redacted.make("other"), bytes(valid)) } }
    ],
    ["the signature of another body", 401, { headers: { "x-hub-signature-256": sign(secret, bytes(`${valid} `)) } }],
    ["no signature", 401, { headers: { "x-hub-signature-256": undefined } }],
    [
      "a signature that is cut off",
      401,
      { headers: { "x-hub-signature-256": sign(secret, bytes(valid)).slice(0, -1) } }
    ],
    ["no delivery id", 400, { headers: { "x-github-delivery": undefined } }],
    ["an empty delivery id", 400, { headers: { "x-github-delivery": "" } }],
    ["no event", 400, { headers: { "x-github-event": undefined } }],
    ["a body that is not JSON", 400, { body: "action=opened" }],
    ["an empty body", 400, { body: "" }],
    ["a body that is not UTF-8", 400, { body: Uint8Array.of(0x22, 0xff, 0x22) }],
    ["a body over the transport's limit", 413, { body: JSON.stringify("x".repeat(1024 * 1024)) }]
  ])("refuses %s, and publishes nothing", ([, status, parts]) =>
    Effect.gen(function* () {
      // One that is accepted shows that what was refused is not on its way.
      const accepted = { headers: { "x-github-delivery": "accepted" } }
      const { deadLetters, messages, statuses } = yield* received(Effect.all([post(parts), post(accepted)]))
      assert.deepStrictEqual(statuses, [status, 202])
      assert.deepStrictEqual(
        messages.map(({ id }) => id),
        ["accepted"]
      )
      assert.deepStrictEqual(deadLetters, [])
    })
  )

  it.effect("answers 503 to what is not acknowledged in time", () =>
    Effect.gen(function* () {
      const publishing = yield* Latch.make()
      yield* Effect.gen(function* () {
        const fiber = yield* Effect.forkChild(post())
        yield* publishing.await
        yield* TestClock.adjust("8 seconds")
        assert.strictEqual(yield* Fiber.join(fiber), 503)
      }).pipe(Effect.provide(layerPublishing(() => Effect.andThen(publishing.open, Effect.never))))
    })
  )

  it.effect("answers 503 to what cannot be published again and again", () =>
    Effect.gen(function* () {
      const publishing = yield* Latch.make()
      const reason = new Unavailable({ detail: "the database is down" })
      const refused = new TransportError({ operation: "publish", topic: "github-deliveries", reason })
      yield* Effect.gen(function* () {
        const fiber = yield* Effect.forkChild(post())
        yield* publishing.await
        yield* TestClock.adjust("8 seconds")
        assert.strictEqual(yield* Fiber.join(fiber), 503)
      }).pipe(Effect.provide(layerPublishing(() => Effect.andThen(publishing.open, Effect.fail(refused)))))
    })
  )
})
