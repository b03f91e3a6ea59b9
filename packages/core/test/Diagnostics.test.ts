/** What can be watched: events, metrics, spans. */
import { assert, describe, it } from "@effect/vitest"
import { Consumer, Diagnostics, Producer, Surety, Topic } from "@surety/core"
import { Effect, Layer, Metric, Queue, Schema, Stream, Tracer } from "effect"
import { TestClock } from "effect/testing"
import { Broken, during, note, notes, quiet, takeN } from "./support.ts"

const Notes = notes("exactly-once")

/** The events, in a queue; those of messages as their tag, id and attempt. */
const recorded = Effect.gen(function* () {
  const queue = yield* Queue.unbounded<string>()
  yield* Effect.forkScoped(
    Stream.runForEach(Diagnostics.events, (event) =>
      Queue.offer(queue, "id" in event ? `${event._tag} ${event.id}#${event.attempt}` : event._tag)
    )
  )
  yield* quiet
  return queue
})

const live = Layer.provideMerge(Surety.layerMemory, Diagnostics.layer)

describe("Diagnostics", () => {
  it.effect("tells each step of each message", () =>
    Effect.gen(function* () {
      const queue = yield* recorded
      yield* during(
        Consumer.make(Notes, {
          group: "readers",
          batchSize: 1,
          redeliverAfter: "1 minute",
          handler: ({ id }, { attempt }) =>
            id === "late" && attempt === 1
              ? Consumer.retryAfter("2 minutes")
              : id === "soon" && attempt === 1
                ? Consumer.retryAfter("1 second")
                : id === "bad"
                  ? new Broken()
                  : Effect.void
        }).pipe(Consumer.orDeadLetter),
        Effect.gen(function* () {
          assert.deepStrictEqual(yield* takeN(queue, 1), ["Assigned"])
          yield* Producer.publish(Notes, note("fine"))
          assert.deepStrictEqual(yield* takeN(queue, 3), ["Claimed", "Started fine#1", "Handled fine#1"])
          yield* Producer.publish(Notes, note("fine"))
          assert.deepStrictEqual(yield* takeN(queue, 2), ["Claimed", "Duplicate fine#1"])
          yield* Producer.publish(Notes, note("bad"))
          assert.deepStrictEqual(yield* takeN(queue, 4), [
            "Claimed",
            "Started bad#1",
            "Failed bad#1",
            "DeadLettered bad#1"
          ])
          yield* Producer.publish(Notes, note("soon"))
          assert.deepStrictEqual(yield* takeN(queue, 4), [
            "Claimed",
            "Started soon#1",
            "Failed soon#1",
            "Retrying soon#1"
          ])
          yield* quiet
          yield* TestClock.adjust("1 second")
          assert.deepStrictEqual(yield* takeN(queue, 2), ["Started soon#2", "Handled soon#2"])
          yield* Producer.publish(Notes, note("late"))
          assert.deepStrictEqual(yield* takeN(queue, 4), [
            "Claimed",
            "Started late#1",
            "Failed late#1",
            "Parked late#1"
          ])
          yield* quiet
          yield* TestClock.adjust("2 minutes")
          assert.deepStrictEqual(yield* takeN(queue, 2), ["Started late#2", "Handled late#2"])
        })
      )
      assert.deepStrictEqual(yield* takeN(queue, 1), ["Released"])
    }).pipe(Effect.provide(live))
  )
})

describe("metrics", () => {
  it.effect("count what becomes of messages, by topic and group", () =>
    Effect.gen(function* () {
      const Counted = Topic.make("counted", {
        schema: Schema.String,
        guarantee: "exactly-once",
        id: (text) => text,
        partitions: 1
      })
      yield* Producer.publishAll(Counted, ["a", "b", "b", "bad"])
      yield* during(
        Consumer.make(Counted, {
          group: "counters",
          batchSize: 1,
          handler: (text) => (text === "bad" ? Effect.fail(new Broken()) : Effect.void)
        }).pipe(Consumer.orDeadLetter),
        quiet
      )
      const counts = new Map<string, unknown>()
      for (const { attributes, id, state } of yield* Metric.snapshot) {
        if (attributes?.["messaging.destination.name"] === "counted" && "count" in state)
          counts.set(id, Number(state.count))
      }
      assert.deepStrictEqual(Object.fromEntries(counts), {
        "surety.published": 4,
        "surety.handled": 2,
        "surety.duplicates": 1,
        "surety.failed_attempts": 1,
        "surety.dead_letters": 1,
        "messaging.process.duration": 3
      })
    }).pipe(Effect.provide(Surety.layerMemory), Effect.provideService(Metric.MetricRegistry, new Map()))
  )
})

describe("spans", () => {
  const tracer = (spans: Array<Tracer.Span>) =>
    Tracer.make({
      span: (options) => {
        const span = Tracer.nativeTracer.span(options)
        spans.push(span)
        return span
      }
    })

  it.effect("link each attempt to the publish that it comes from", () =>
    Effect.gen(function* () {
      const spans: Array<Tracer.Span> = []
      yield* Effect.gen(function* () {
        yield* Producer.publish(Notes, note("one")).pipe(Effect.withSpan("request"))
        yield* during(
          Consumer.make(Notes, { group: "readers", handler: () => Effect.withSpan(Effect.void, "inside") }),
          quiet
        )
      }).pipe(Effect.provide(Surety.layerMemory), Effect.provideService(Tracer.Tracer, tracer(spans)))
      const named = (name: string) => spans.find((span) => span.name === name)!
      const publish = named("publish notes")
      const process = named("process notes")
      assert.strictEqual(publish.kind, "producer")
      assert.strictEqual(publish.traceId, named("request").traceId)
      assert.strictEqual(process.kind, "consumer")
      assert.deepStrictEqual(
        process.links.map(({ span }) => [span.traceId, span.spanId]),
        [[publish.traceId, publish.spanId]]
      )
      assert.strictEqual(named("inside").traceId, process.traceId)
      assert.strictEqual(process.attributes.get("messaging.message.id"), "one")
      assert.strictEqual(process.attributes.get("messaging.consumer.group.name"), "readers")
    })
  )

  it.effect("are not made, and nothing is sent, where no tracer is installed", () =>
    Effect.gen(function* () {
      const headers = yield* Queue.unbounded<unknown>()
      yield* Producer.publish(Notes, note("one")).pipe(Effect.withSpan("request"))
      yield* during(
        Consumer.make(Notes, { group: "readers", handler: (_, envelope) => Queue.offer(headers, envelope.headers) }),
        quiet
      )
      assert.deepStrictEqual(yield* Queue.take(headers), { "content-type": "application/json" })
    }).pipe(Effect.provide(Surety.layerMemory))
  )
})
