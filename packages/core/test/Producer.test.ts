import { assert, describe, it } from "@effect/vitest"
import {
  AtLeastOnce,
  AtMostOnce,
  Channel,
  Consumer,
  type Envelope,
  Producer,
  Surety,
  Topic,
  Transport
} from "@surety/core"
import { Deferred, Effect, Fiber, Layer, Queue, Schedule, Schema } from "effect"
import { TestClock } from "effect/testing"
import {
  OutcomeUnknown,
  TransportError,
  type TransportErrorReason,
  Unauthorized,
  Unavailable
} from "../src/TransportError.ts"
import { during, layerOver, note, notes, quiet, takeN } from "./support.ts"

type Try = "stored" | "lost reply" | "unavailable" | "unauthorized" | "no reply" | "stored, no reply"

const failure = (reason: TransportErrorReason) =>
  Effect.fail(new TransportError({ operation: "publish", topic: "notes", reason }))

/** A transport whose publishes go as told, one after another, and the ids that each try carried. */
const scripted = (script: ReadonlyArray<Try>) => {
  const tries: Array<ReadonlyArray<Envelope.EncodedRecord>> = []
  const layer = layerOver((real) => ({
    publish: (topic, records) =>
      Effect.suspend(() => {
        const how = script[tries.length] ?? "stored"
        tries.push(records)
        const stored = real.publish(topic, records)
        switch (how) {
          case "stored":
            return stored
          case "lost reply":
            return Effect.andThen(stored, failure(new OutcomeUnknown({ detail: "the reply was lost" })))
          case "unavailable":
            return failure(new Unavailable({ detail: "down" }))
          case "unauthorized":
            return failure(new Unauthorized({ detail: "no" }))
          case "no reply":
            return Effect.never
          case "stored, no reply":
            return Effect.andThen(stored, Effect.never)
        }
      })
  }))
  return { tries, layer }
}

const by = (retry: Schedule.Schedule<unknown, TransportError>) => ({
  over: ({ layer }: { readonly layer: ReturnType<typeof layerOver> }) =>
    AtLeastOnce.layerWith({ retry }).pipe(Layer.provide(layer))
})

const Notes = Topic.make("notes", { schema: Schema.String, guarantee: "at-least-once" })
const Once = Topic.make("notes", { schema: Schema.String, guarantee: "at-most-once" })

describe("publishing at least once", () => {
  it.effect("repeats by the schedule until it is acknowledged, with one message id and time over all tries", () =>
    Effect.gen(function* () {
      const script = scripted(["unavailable", "lost reply", "unavailable", "stored"])
      const publishing = yield* Producer.publish(Notes, "a").pipe(
        Effect.provide(by(Schedule.exponential("1 second")).over(script)),
        Effect.forkChild
      )
      for (const [seconds, tries] of [
        [1, 1],
        [2, 2],
        [4, 3]
      ] as const) {
        yield* quiet
        assert.strictEqual(script.tries.length, tries)
        yield* TestClock.adjust(seconds * 1000 - 1)
        assert.strictEqual(script.tries.length, tries)
        yield* TestClock.adjust(1)
      }
      const receipt = yield* Fiber.join(publishing)
      assert.strictEqual(receipt.state, "stored")
      assert.strictEqual(script.tries.length, 4)
      for (const [record] of script.tries) assert.deepInclude(record, { id: receipt.id, time: 0 })
    })
  )

  it.effect("takes a missing reply for an unknown outcome once the ack timeout is over, and repeats", () =>
    Effect.gen(function* () {
      const script = scripted(["no reply", "stored"])
      const publishing = yield* Producer.publish(Notes, "a").pipe(
        Effect.provide(by(Schedule.recurs(1)).over(script)),
        Effect.forkChild
      )
      yield* quiet
      yield* TestClock.adjust(4999)
      assert.strictEqual(script.tries.length, 1)
      yield* TestClock.adjust(1)
      assert.strictEqual((yield* Fiber.join(publishing)).state, "stored")
      assert.strictEqual(script.tries.length, 2)
    })
  )

  it.effect("follows an ack timeout of the transport's own", () =>
    Effect.gen(function* () {
      const never = layerOver(() => ({ publish: () => Effect.never }), { acks: "200 millis" })
      const publishing = yield* Effect.flip(Producer.publish(Notes, "a")).pipe(
        Effect.provide(by(Schedule.recurs(0)).over({ layer: never })),
        Effect.forkChild
      )
      yield* quiet
      yield* TestClock.adjust("200 millis")
      const { message, reason } = yield* Fiber.join(publishing)
      assert.strictEqual(reason._tag, "MaybeSent")
      assert.include(message, "no acknowledgement within 200ms")
    })
  )

  for (const [script, tag] of [
    [["unavailable", "unavailable"], "NotSent"],
    [["lost reply", "lost reply"], "MaybeSent"],
    [["lost reply", "unavailable"], "MaybeSent"],
    [["unavailable", "lost reply"], "MaybeSent"],
    [["lost reply", "unauthorized"], "MaybeSent"],
    [["unauthorized"], "NotSent"]
  ] as const) {
    it.effect(`says ${tag} when the tries ended: ${script.join(", ")}`, () =>
      Effect.gen(function* () {
        const scripts = scripted(script)
        const error = yield* Effect.flip(Producer.publish(Notes, "a")).pipe(
          Effect.provide(by(Schedule.recurs(1)).over(scripts))
        )
        assert.strictEqual(error.reason._tag, tag)
        assert.strictEqual(scripts.tries.length, script.length)
        assert.strictEqual(error.isRetryable, script.at(-1) !== "unauthorized" || tag === "MaybeSent")
        assert.deepStrictEqual(error.ids, [scripts.tries[0]![0]!.id])
      })
    )
  }

  it.effect("says MaybeSent when an earlier try may have stored it and no reply came", () =>
    Effect.gen(function* () {
      const script = scripted(["stored, no reply", "unavailable"])
      const publishing = yield* Effect.flip(Producer.publish(Notes, "a")).pipe(
        Effect.provide(by(Schedule.recurs(1)).over(script)),
        Effect.forkChild
      )
      yield* quiet
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual((yield* Fiber.join(publishing)).reason._tag, "MaybeSent")
    })
  )

  it.effect("gives up within about a minute unless told otherwise", () =>
    Effect.gen(function* () {
      const script = scripted(Array.from({ length: 1000 }, () => "unavailable" as const))
      const publishing = yield* Effect.flip(Producer.publish(Notes, "a")).pipe(
        Effect.provide(script.layer),
        Effect.forkChild
      )
      yield* quiet
      yield* TestClock.adjust("50 seconds")
      assert.isUndefined(publishing.pollUnsafe())
      yield* TestClock.adjust("20 seconds")
      assert.strictEqual((yield* Fiber.join(publishing)).reason._tag, "NotSent")
      assert.isAbove(script.tries.length, 10)
    })
  )
})

describe("publishing at most once", () => {
  for (const [how, tag] of [
    ["unavailable", "NotSent"],
    ["lost reply", "MaybeSent"]
  ] as const) {
    it.effect(`tries once, and says ${tag} when it was ${how}`, () =>
      Effect.gen(function* () {
        const script = scripted([how])
        const error = yield* Effect.flip(Producer.publish(Once, "a")).pipe(
          Effect.provide(AtMostOnce.layer.pipe(Layer.provide(script.layer)))
        )
        assert.strictEqual(error.reason._tag, tag)
        assert.strictEqual(script.tries.length, 1)
      })
    )
  }
})

describe("publishAll", () => {
  it.effect("sends nothing when one payload does not encode", () =>
    Effect.gen(function* () {
      const script = scripted([])
      const Short = Topic.make("notes", {
        schema: Schema.String.check(Schema.isMaxLength(3)),
        guarantee: "at-least-once"
      })
      const error = yield* Effect.flip(Producer.publishAll(Short, ["abc", "abcd", "ab"])).pipe(
        Effect.provide(script.layer)
      )
      assert.strictEqual(error.reason._tag, "EncodeFailed")
      assert.isFalse(error.isRetryable)
      assert.strictEqual(script.tries.length, 0)
    })
  )

  it.effect("sends all in one try, in their order, and returns their receipts", () =>
    Effect.gen(function* () {
      const script = scripted([])
      const receipts = yield* Producer.publishAll(Notes, ["a", "b", "c"], { headers: { lang: "en" } }).pipe(
        Effect.provide(script.layer)
      )
      assert.strictEqual(script.tries.length, 1)
      assert.deepStrictEqual(
        receipts.map(({ id }) => id),
        script.tries[0]!.map(({ id }) => id)
      )
      assert.strictEqual(new Set(receipts.map(({ id }) => id)).size, 3)
      assert.deepStrictEqual(
        script.tries[0]!.map(({ payload }) => new TextDecoder().decode(payload)),
        ['"a"', '"b"', '"c"']
      )
      for (const record of script.tries[0]!) {
        assert.deepStrictEqual(record.headers, { "content-type": "application/json", lang: "en" })
      }
    })
  )

  it.effect("stores none when one record is too large", () =>
    Effect.gen(function* () {
      const Small = Topic.make("notes", { schema: Schema.String, guarantee: "at-least-once", partitions: 1 })
      const error = yield* Effect.flip(Producer.publishAll(Small, ["a", "b".repeat(1024 * 1024)]))
      if (error.reason._tag !== "NotSent") return assert.fail(error.message)
      assert.strictEqual(error.reason.cause.reason._tag, "RecordTooLarge")
      assert.isFalse(error.isRetryable)
      const events = yield* Queue.unbounded<string>()
      yield* during(
        Consumer.make(Small, { group: "readers", handler: (text) => Queue.offer(events, text) }),
        Effect.gen(function* () {
          yield* Producer.publish(Small, "c")
          assert.deepStrictEqual(yield* takeN(events, 1), ["c"])
        })
      )
    }).pipe(Effect.provide(Surety.layerMemory))
  )

  it.effect("of nothing sends nothing", () =>
    Effect.gen(function* () {
      const script = scripted([])
      assert.deepStrictEqual(yield* Effect.provide(Producer.publishAll(Notes, []), script.layer), [])
      assert.strictEqual(script.tries.length, 0)
    })
  )
})

describe("ids, keys and headers", () => {
  it.effect("come from the publish, else from the topic", () =>
    Effect.gen(function* () {
      const script = scripted([])
      const Keyed = notes("at-least-once")
      yield* Effect.gen(function* () {
        yield* Producer.publish(Keyed, note("a", "k"))
        yield* Producer.publish(Keyed, note("a", "k"), { id: "other", key: "l", headers: { "content-type": "text/x" } })
        yield* Producer.publish(Keyed, note("b"))
      }).pipe(Effect.provide(script.layer))
      assert.deepStrictEqual(
        script.tries.map(([record]) => [record!.id, record!.key, record!.headers["content-type"]]),
        [
          ["a", "k", "application/json"],
          ["other", "l", "text/x"],
          ["b", undefined, "application/json"]
        ]
      )
    })
  )
})

describe("publishing in an exactly-once handler", () => {
  const In = notes("exactly-once")
  const Out = Topic.make("out", { schema: Schema.String, guarantee: "at-least-once", partitions: 1 })
  const Loose = Topic.make("loose", { schema: Schema.String, guarantee: "at-most-once", partitions: 1 })
  const received = (topic: typeof Out | typeof Loose, events: Queue.Queue<string>) =>
    Consumer.make(topic as typeof Out, { group: "out", handler: (text) => Queue.offer(events, text) })

  it.effect("joins the transaction, and is rolled back with the attempt", () =>
    Effect.gen(function* () {
      const events = yield* Queue.unbounded<string>()
      const states = yield* Queue.unbounded<string>()
      const consumer = Consumer.make(In, {
        group: "in",
        defectRetry: Schedule.recurs(1),
        handler: (_, { attempt }) =>
          Effect.gen(function* () {
            const first = yield* Producer.publish(Out, `kept ${attempt}`)
            const second = yield* Producer.publish(Loose, `loose ${attempt}`)
            yield* Queue.offerAll(states, [first.state, second.state])
            if (attempt === 1) return yield* Effect.die("after it has published")
          })
      }).pipe(Consumer.orDeadLetter)
      yield* Effect.gen(function* () {
        yield* Producer.publish(In, note("a"))
        assert.deepStrictEqual((yield* takeN(events, 2)).sort(), ["kept 2", "loose 2"])
        assert.deepStrictEqual(yield* takeN(states, 4), ["joined", "joined", "joined", "joined"])
      }).pipe(
        (body) => during(received(Out, events), body),
        (body) => during(received(Loose, events), body),
        (body) => during(consumer, body)
      )
      assert.deepStrictEqual(yield* Queue.clear(events), [])
    }).pipe(Effect.provide(Surety.layerMemory))
  )

  it.effect("leaves all the same, and with each attempt, where it is published now", () =>
    Effect.gen(function* () {
      const events = yield* Queue.unbounded<string>()
      const consumer = Consumer.make(In, {
        group: "in",
        defectRetry: Schedule.recurs(1),
        handler: (_, { attempt }) =>
          Effect.gen(function* () {
            const receipt = yield* Producer.publishNow(Out, `attempt ${attempt}`)
            assert.strictEqual(receipt.state, "stored")
            return yield* Effect.die("after it has published")
          })
      }).pipe(Consumer.orDeadLetter)
      yield* Producer.publish(In, note("a")).pipe(
        Effect.andThen(takeN(events, 2)),
        Effect.map((found) => assert.deepStrictEqual(found, ["attempt 1", "attempt 2"])),
        (body) => during(received(Out, events), body),
        (body) => during(consumer, body)
      )
    }).pipe(Effect.provide(Surety.layerMemory))
  )

  for (const [name, fault] of [
    ["hangs", Effect.never],
    ["dies", Effect.die("a mistake in the transport")]
  ] as const) {
    it.effect(`at most once holds nothing up where the transport ${name} after the commit`, () =>
      Effect.gen(function* () {
        const events = yield* Queue.unbounded<string>()
        const consumer = Consumer.make(In, {
          group: "in",
          batchSize: 1,
          handler: ({ id }, { attempt }) =>
            Effect.andThen(Queue.offer(events, `${id}#${attempt}`), Producer.publish(Loose, id))
        }).pipe(Consumer.orDeadLetter)
        yield* during(
          consumer,
          Effect.gen(function* () {
            yield* Producer.publishAll(In, [note("a"), note("b")])
            assert.deepStrictEqual(yield* takeN(events, 1), ["a#1"])
            yield* quiet
            yield* TestClock.adjust("5 seconds")
            assert.deepStrictEqual(yield* takeN(events, 1), ["b#1"])
            yield* quiet
            yield* TestClock.adjust("5 seconds")
          })
        )
        assert.deepStrictEqual(yield* Queue.clear(events), [])
      }).pipe(
        Effect.provide(
          layerOver((real) => ({
            publish: (topic, records) => (topic.name === "loose" ? fault : real.publish(topic, records))
          })).pipe((layer) => Layer.merge(layer, AtMostOnce.layer.pipe(Layer.provide(layer))))
        )
      )
    )
  }

  it.effect("is not seen before the commit", () =>
    Effect.gen(function* () {
      const events = yield* Queue.unbounded<string>()
      const published = yield* Deferred.make<void>()
      const proceed = yield* Deferred.make<void>()
      const consumer = Consumer.make(In, {
        group: "in",
        handler: Effect.fn(function* () {
          yield* Producer.publish(Out, "a")
          yield* Deferred.succeed(published, undefined)
          yield* Deferred.await(proceed)
        })
      }).pipe(Consumer.orDeadLetter)
      yield* Effect.gen(function* () {
        yield* Producer.publish(In, note("a"))
        yield* Deferred.await(published)
        yield* quiet
        assert.strictEqual(yield* Queue.size(events), 0)
        yield* Deferred.succeed(proceed, undefined)
        assert.deepStrictEqual(yield* takeN(events, 1), ["a"])
      }).pipe(
        (body) => during(received(Out, events), body),
        (body) => during(consumer, body)
      )
    }).pipe(Effect.provide(Surety.layerMemory))
  )

  it.effect("fails with UnitEnded from a fiber that outlives its handler", () =>
    Effect.gen(function* () {
      const outcome = yield* Deferred.make<string>()
      const ended = yield* Deferred.make<void>()
      const consumer = Consumer.make(In, {
        group: "in",
        handler: Effect.fn(function* () {
          yield* Deferred.await(ended).pipe(
            Effect.andThen(Producer.publish(Out, "late")),
            Effect.match({ onFailure: ({ reason }) => reason._tag, onSuccess: ({ state }) => state }),
            Effect.flatMap((tag) => Deferred.succeed(outcome, tag)),
            Effect.forkDetach
          )
        })
      })
      yield* during(consumer, Effect.andThen(Producer.publish(In, note("a")), quiet))
      yield* Deferred.succeed(ended, undefined)
      assert.strictEqual(yield* Deferred.await(outcome), "UnitEnded")
      const transport = yield* Transport.Transport
      yield* transport.declare({ name: "out", partitions: 1 })
      const store = yield* Effect.scoped(
        transport
          .subscribe({ topic: { name: "out", partitions: 1 }, group: "g", startFrom: "earliest" })
          .pipe(Effect.andThen(transport.progress("out", "g")))
      )
      assert.strictEqual(store[0]!.lag, 0)
    }).pipe(Effect.provide(Surety.layerMemory))
  )

  it.effect("is refused where the outbox cannot carry it: to another store", () =>
    Effect.gen(function* () {
      class Elsewhere extends Channel.make("Elsewhere") {}
      const Away = Topic.make("away", { schema: Schema.String, guarantee: "at-least-once", channel: Elsewhere })
      const outcome = yield* Deferred.make<string>()
      const consumer = Consumer.make(In, {
        group: "in",
        handler: () =>
          Producer.publish(Away, "a").pipe(
            Effect.flip,
            Effect.flatMap(({ reason }) => Deferred.succeed(outcome, reason._tag)),
            Effect.orDie
          )
      })
      yield* during(
        consumer,
        Effect.gen(function* () {
          yield* Producer.publish(In, note("a"))
          assert.strictEqual(yield* Deferred.await(outcome), "NotCarried")
        })
      ).pipe(Effect.provide(Surety.layerMemory.pipe(Channel.on(Elsewhere))))
    }).pipe(Effect.provide(Surety.layerMemory))
  )
})
