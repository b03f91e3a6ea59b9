/** Programs whose brokers are away end all the same. */
import { assert, it } from "@effect/vitest"
import { Consumer, Producer, Transport } from "@surety/core"
import * as TestKafka from "@surety/testing/TestKafka"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { describeKafka } from "./support/kafka.ts"
import { layerNode, note, notes, uniqueName, until } from "./support/node.ts"
import { Proxy } from "./support/proxy.ts"

const layerProxy = (proxy: Proxy) => TestKafka.layerWith({ advertised: [proxy.port] })

/** A broker of the test's own, and a network to it. */
const network = Effect.gen(function* () {
  let listener: number | undefined
  const proxy = yield* Effect.acquireRelease(
    Effect.promise(() => Proxy.make(() => listener!)),
    (made) => Effect.sync(() => made.close())
  )
  const kafka = Context.get(yield* Layer.build(layerProxy(proxy)), TestKafka.TestKafka)
  listener = kafka.listeners[0]
  return { proxy, servers: kafka.bootstrapServers }
})

describeKafka("brokers that are away", () => {
  it.live("a consumer whose network is frozen stops meanwhile, and leaves its group when it is back (rule 13)", () =>
    Effect.gen(function* () {
      const { proxy, servers } = yield* network
      const topic = notes("at-least-once", 1)
      const consumer = (seen: Array<string>) =>
        Consumer.make(topic, {
          group: "group",
          drainTimeout: "1 second",
          handler: ({ id }) => Effect.sync(() => void seen.push(id))
        }).pipe(Consumer.orDeadLetter)
      const node = (
        options: { readonly bootstrapServers: string; readonly sessionTimeout?: "2 minutes" },
        scope: Scope.Scope
      ) => Layer.buildWithScope(layerNode({ client: options }), scope)

      const first = Scope.makeUnsafe()
      const cutOff = yield* node(
        // Longer than the test may take: only who leaves gives its partitions back.
        { bootstrapServers: `127.0.0.1:${proxy.port}`, sessionTimeout: "2 minutes" },
        first
      )
      const early: Array<string> = []
      yield* Producer.publish(topic, note(1)).pipe(
        Effect.andThen(Consumer.start(consumer(early))),
        Effect.provideContext(cutOff),
        Scope.provide(first)
      )
      yield* until(Effect.sync(() => early.length === 1))
      proxy.cut("frozen")
      // A commit is not answered, which the client itself would wait for as long as that is so.
      yield* Scope.close(first, Exit.void)

      const late: Array<string> = []
      const here = yield* node({ bootstrapServers: servers }, yield* Effect.scope)
      yield* Effect.forkScoped(Effect.provideContext(Consumer.run(consumer(late)), here))
      yield* Effect.provideContext(Producer.publish(topic, note(2)), here)
      proxy.mend()
      yield* until(Effect.sync(() => late.includes("n-2")))
    }).pipe(Effect.scoped)
  )

  it.live(
    "a full queue of the client is waited for: nothing fails while the brokers are away, and all of it arrives (rule 10)",
    () =>
      Effect.gen(function* () {
        const { proxy } = yield* network
        const node = yield* Layer.buildWithScope(
          layerNode({ ackTimeout: "2 minutes", client: { bootstrapServers: `127.0.0.1:${proxy.port}` } }),
          yield* Effect.scope
        )
        const { declare, progress, publish, subscribe } = Context.get(node, Transport.Transport)
        const topic = { name: uniqueName("full"), partitions: 1 }
        yield* declare(topic)
        yield* Effect.scoped(subscribe({ topic, group: "group", startFrom: "earliest" }))
        proxy.cut("frozen")
        // More than the client's queue holds by default.
        const count = 100_100
        const payload = new Uint8Array(1)
        const records = Array.from({ length: count }, (_, index) => ({
          id: `${index}`,
          key: undefined,
          headers: {},
          time: 1_800_000_000_000,
          payload
        }))
        const publishing = yield* Effect.forkScoped(publish(topic, records))
        // Until there is no more room, nothing of it waits.
        yield* Effect.yieldNow
        assert.isUndefined(publishing.pollUnsafe())
        proxy.mend()
        yield* Fiber.join(publishing)
        const [partition] = yield* progress(topic.name, "group")
        assert.strictEqual(partition!.lag, count)
      }).pipe(Effect.scoped)
  )
})
