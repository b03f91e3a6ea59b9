/** Exactly-once from topic to topic, on a real broker. The long form, with kills and broker restarts: `npm run kafka:copy`. */
import { assert, it } from "@effect/vitest"
import { Consumer, DeadLetters, Producer, Transport } from "@surety/core"
import * as KafkaClient from "@surety/kafka/KafkaClient"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { TransactionalProducer } from "../src/internal/transactional.ts"
import { describeKafka } from "./support/kafka.ts"
import { layerNode, note, notes, uniqueName, until } from "./support/node.ts"

/** The ids of what a group of readers of committed records is given, as it comes. */
const reading = Effect.fnUntraced(function* (topic: ReturnType<typeof notes<"at-least-once">>) {
  const ids: Array<string> = []
  yield* Consumer.start(
    Consumer.make(topic, { group: uniqueName("reader"), handler: ({ id }) => Effect.sync(() => void ids.push(id)) })
  )
  return ids
})

const settled = (topic: { readonly name: string }, group: string) =>
  Effect.flatMap(Transport.Transport, (transport) =>
    until(Effect.map(transport.progress(topic.name, group), (progress) => progress.every(({ lag }) => lag === 0)))
  )

const raw = (id: string) => ({
  record: {
    id,
    key: id,
    headers: {},
    time: Date.now(),
    payload: new TextEncoder().encode(JSON.stringify({ id, key: id }))
  }
})

describeKafka("KafkaExactlyOnce", () => {
  it.live("what a handler publishes, and its offset, commit once, whatever failed before", () =>
    Effect.gen(function* () {
      const from = notes("exactly-once-kafka")
      const to = notes("at-least-once")
      const failed = new Set<string>()
      yield* Producer.publishAll(
        from,
        Array.from({ length: 60 }, (_, index) => note(index))
      )
      const ids = yield* reading(to)
      yield* Consumer.start(
        Consumer.make(from, {
          group: "copier",
          concurrency: 3,
          batchSize: 8,
          handler: Effect.fnUntraced(function* (each) {
            yield* Producer.publish(to, each)
            // After it has published: what it published is aborted with it.
            if (each.id.endsWith("7") && !failed.has(each.id)) {
              failed.add(each.id)
              return yield* Effect.die("once")
            }
          })
        }).pipe(Consumer.orDeadLetter)
      )
      yield* settled(from, "copier")
      yield* until(Effect.sync(() => ids.length >= 60))
      assert.strictEqual(failed.size, 6)
      assert.deepStrictEqual(ids.toSorted(), Array.from({ length: 60 }, (_, index) => note(index).id).toSorted())
      // Invariant 11, with everything in one sequence for each partition.
      for (const key of ["key-0", "key-1"]) {
        const numbers = ids.map((id) => Number(id.slice(2))).filter((number) => note(number).key === key)
        assert.deepStrictEqual(
          numbers,
          numbers.toSorted((a, b) => a - b)
        )
      }
    }).pipe(Effect.scoped, Effect.provide(layerNode()))
  )

  it.live("poison goes to the dead letters, and the rest of its batch commits", () =>
    Effect.gen(function* () {
      const from = notes("exactly-once-kafka", 1)
      const to = notes("at-least-once", 1)
      yield* Producer.publishAll(
        from,
        Array.from({ length: 20 }, (_, index) => note(index))
      )
      const ids = yield* reading(to)
      yield* Consumer.start(
        Consumer.make(from, {
          group: "copier",
          defectRetry: Schedule.recurs(1),
          handler: (each) =>
            Effect.andThen(Producer.publish(to, each), each.id === "n-13" ? Effect.die("always") : Effect.void)
        }).pipe(Consumer.orDeadLetter)
      )
      yield* settled(from, "copier")
      yield* until(Effect.sync(() => ids.length >= 19))
      assert.deepStrictEqual(
        ids,
        Array.from({ length: 20 }, (_, index) => note(index).id).filter((id) => id !== "n-13")
      )
      const { list, redrive } = yield* DeadLetters.DeadLetters
      const [letter, ...others] = yield* Stream.runCollect(list({ topic: from.name }))
      assert.deepStrictEqual(others, [])
      assert.deepInclude(letter, { group: "copier", attempts: 2 })
      assert.strictEqual(letter!.record.id, "n-13")
      assert.match(letter!.failure.cause, /always/)
      assert.strictEqual(yield* redrive({ topic: from.name, id: "nobody" }), 0)
    }).pipe(Effect.scoped, Effect.provide(layerNode()))
  )

  it.live("readers see nothing of a transaction that is open, and the holdback is named (rule 11)", () =>
    Effect.gen(function* () {
      const from = notes("exactly-once-kafka", 1)
      const to = notes("at-least-once", 1)
      const published = Deferred.makeUnsafe<void>()
      const go = Deferred.makeUnsafe<void>()
      const transport = yield* Transport.Transport
      yield* transport.declare({ name: to.name, partitions: 1 })
      yield* Producer.publish(from, note(1))
      const ids = yield* reading(to)
      const cluster = yield* KafkaClient.KafkaClient
      const producer = yield* TransactionalProducer.make(cluster, "test", to.name, {
        transactionalId: uniqueName("held"),
        timeoutMillis: 60_000
      })
      const running = yield* Effect.forkScoped(
        producer.run((send) =>
          send(to.name, [raw("held")]).pipe(
            Effect.andThen(Deferred.succeed(published, undefined)),
            Effect.andThen(Deferred.await(go))
          )
        )
      )
      yield* Deferred.await(published)
      yield* until(Effect.map(transport.holdbacks!(to.name), ({ length }) => length === 1))
      yield* Producer.publish(to, note(2))
      assert.deepStrictEqual(ids, [])
      const [progress] = yield* transport
        .progress(to.name, "nobody")
        .pipe(Effect.catch(() => Effect.succeed([undefined])))
      assert.isUndefined(progress)
      yield* Deferred.succeed(go, undefined)
      yield* until(Effect.sync(() => running.pollUnsafe() !== undefined))
      yield* until(Effect.sync(() => ids.length === 2))
      assert.deepStrictEqual(ids, ["held", "n-2"])
      yield* until(Effect.map(transport.holdbacks!(to.name), ({ length }) => length === 0))
    }).pipe(Effect.scoped, Effect.provide(layerNode()))
  )

  it.live("a later producer of one transactional id ends the earlier one, and what it had begun (rules 1 and 2)", () =>
    Effect.gen(function* () {
      const to = notes("at-least-once", 1)
      const cluster = yield* KafkaClient.KafkaClient
      const transport = yield* Transport.Transport
      yield* transport.declare({ name: to.name, partitions: 1 })
      const ids = yield* reading(to)
      const settings = { transactionalId: uniqueName("fenced"), timeoutMillis: 60_000 }
      const make = TransactionalProducer.make(cluster, "test", to.name, settings)
      const earlier = yield* make
      const error = yield* Effect.flip(
        earlier.run((send) =>
          Effect.andThen(
            send(to.name, [raw("stale")]),
            Effect.flatMap(make, (later) => later.run((send) => send(to.name, [raw("later")])))
          )
        )
      )
      assert.isTrue(earlier.unusable, error.message)
      yield* until(Effect.sync(() => ids.length > 0))
      yield* Producer.publish(to, note(1))
      yield* until(Effect.sync(() => ids.length > 1))
      assert.deepStrictEqual(ids, ["later", "n-1"])
    }).pipe(Effect.scoped, Effect.provide(layerNode()))
  )

  it.live("a transaction of several megabytes is aborted whole", () =>
    Effect.gen(function* () {
      const to = notes("at-least-once", 1)
      const cluster = yield* KafkaClient.KafkaClient
      const transport = yield* Transport.Transport
      yield* transport.declare({ name: to.name, partitions: 1 })
      const ids = yield* reading(to)
      const settings = { transactionalId: uniqueName("large"), timeoutMillis: 60_000 }
      const producer = yield* TransactionalProducer.make(cluster, "test", to.name, settings)
      const large = Array.from({ length: 40 }, (_, index) => ({
        record: { ...raw(`l-${index}`).record, payload: new Uint8Array(100_000) }
      }))
      const error = yield* Effect.flip(
        producer.run((send) => Effect.andThen(send(to.name, large), Effect.fail("changed my mind")))
      )
      assert.strictEqual(error, "changed my mind")
      assert.isFalse(producer.unusable)
      yield* producer.run((send) => send(to.name, [raw("after")]))
      yield* until(Effect.sync(() => ids.length > 0))
      assert.deepStrictEqual(ids, ["after"])
    }).pipe(Effect.scoped, Effect.provide(layerNode()))
  )
})
