/** The Kafka backend of the conformance suite: each node reaches the broker through a network of its own. */
import { AtLeastOnce, AtMostOnce } from "@surety/core/Guarantee"
import * as KafkaClient from "@surety/kafka/KafkaClient"
import * as KafkaDeadLetters from "@surety/kafka/KafkaDeadLetters"
import * as KafkaTransport from "@surety/kafka/KafkaTransport"
import * as TestKafka from "@surety/testing/TestKafka"
import type * as TransportTest from "@surety/testing/TransportTest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import { Proxy } from "./proxy.ts"

/** As many nodes as run at once, at the most. */
const maxNodes = 32

const leaseMillis = 2_000

/** A broker, and networks to it that no node uses. */
export class Networks extends Context.Service<Networks, Queue.Queue<Proxy>>()("@surety/kafka/test/Networks") {}

const networks = Layer.effect(
  Networks,
  Effect.gen(function* () {
    let listeners: ReadonlyArray<number> = []
    const proxies = yield* Effect.acquireRelease(
      Effect.promise(() =>
        Promise.all(Array.from({ length: maxNodes }, (_, index) => Proxy.make(() => listeners[index]!)))
      ),
      (made) =>
        Effect.sync(() => {
          for (const proxy of made) proxy.close()
        })
    )
    const kafka = yield* Layer.build(TestKafka.layerWith({ advertised: proxies.map(({ port }) => port) }))
    listeners = Context.get(kafka, TestKafka.TestKafka).listeners
    const free = yield* Queue.unbounded<Proxy>()
    yield* Queue.offerAll(free, proxies)
    return free
  })
)

const services = (port: number) =>
  Layer.mergeAll(AtMostOnce.layer, AtLeastOnce.layer).pipe(
    Layer.provideMerge(KafkaTransport.layer({ acks: "all", ackTimeout: "3 seconds", linger: 0 })),
    Layer.provideMerge(KafkaDeadLetters.layer),
    Layer.provide(
      KafkaClient.layer({
        bootstrapServers: `127.0.0.1:${port}`,
        sessionTimeout: leaseMillis,
        rebalanceTimeout: "20 seconds",
        // One broker for all tests, whose groups have the same names.
        groupId: (group, topic) => `${topic}.${group}`
      })
    )
  )

/** The hash of Kafka's own producers. */
const murmur2 = (bytes: Uint8Array): number => {
  const m = 0x5bd1e995
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  let h = 0x9747b28c ^ bytes.length
  let at = 0
  for (; bytes.length - at >= 4; at += 4) {
    let k = Math.imul(view.getInt32(at, true), m)
    k ^= k >>> 24
    h = Math.imul(h, m) ^ Math.imul(k, m)
  }
  const rest = bytes.length - at
  if (rest > 2) h ^= bytes[at + 2]! << 16
  if (rest > 1) h ^= bytes[at + 1]! << 8
  if (rest > 0) h = Math.imul(h ^ bytes[at]!, m)
  h = Math.imul(h ^ (h >>> 13), m)
  return h ^ (h >>> 15)
}

export const backend: TransportTest.Backend<Networks> = {
  time: "real",
  lease: leaseMillis,
  store: networks,
  node: Effect.fnUntraced(function* () {
    const free = yield* Networks
    const network = yield* Effect.acquireRelease(Queue.take(free), (taken) =>
      Effect.andThen(
        Effect.sync(() => taken.mend()),
        Queue.offer(free, taken)
      )
    )
    const built = yield* Layer.buildWithScope(services(network.port), yield* Effect.scope)
    return {
      services: built as Context.Context<TransportTest.Services>,
      apply: () => Effect.die("Kafka holds no rows of a handler"),
      disconnect: (how) => Effect.sync(() => network.cut(how)),
      reconnect: Effect.sync(() => network.mend())
    }
  }),
  effects: () => Effect.succeed([]),
  partitionOf: ({ key }, partitions) => (murmur2(new TextEncoder().encode(key)) & 0x7fffffff) % partitions
}
