import { assert, it } from "@effect/vitest"
import { Consumer, type Envelope, Producer, Surety, Topic } from "@surety/core"
import * as History from "@surety/testing/History"
import { Effect, Schedule, Schema } from "effect"
import { untilSettled } from "../support/untilSettled.ts"

const Steps = Topic.make("steps", {
  schema: Schema.Struct({ id: Schema.String, order: Schema.String }),
  guarantee: "at-least-once",
  id: ({ id }) => id,
  key: ({ order }) => order
})

class Unlucky extends Schema.TaggedError<Unlucky>()("Unlucky", {}) {}

it.live("no step of an order begins before the one before it has ended for good", () =>
  Effect.gen(function* () {
    const history = History.make()
    let runs = 0
    const handler = Effect.fnUntraced(function* (_: unknown, envelope: Envelope.Envelope<unknown>) {
      const run = { ...envelope, run: runs++, node: "test" }
      yield* history.record({ ...run, _tag: "Start", content: undefined })
      const outcome = envelope.attempt === 1 && run.run % 2 === 0 ? "fail" : "ok"
      yield* history.record({ ...run, _tag: "End", outcome })
      if (outcome === "fail") return yield* new Unlucky()
    })
    const Worker = Consumer.make(Steps, { group: "worker", concurrency: 4, handler }).pipe(
      Consumer.retry(Schedule.spaced("1 millis")),
      Consumer.orDeadLetter,
      Consumer.layer
    )

    const steps = Array.from({ length: 30 }, (_, n) => ({ id: `step-${n}`, order: `order-${n % 3}` }))
    const call = history.next
    const receipts = yield* Producer.publishAll(Steps, steps)
    for (const [index, { id }] of receipts.entries()) {
      const key = steps[index]!.order
      const published = { node: "test", topic: "steps", id, key, call, index, run: undefined, content: undefined }
      yield* history.record({ ...published, _tag: "Publish", outcome: "ok" })
    }
    yield* Effect.provide(untilSettled(Steps, "worker"), Worker)
    assert.isAbove(runs, steps.length)
    assert.strictEqual(History.format(History.orderWithinKey(history.events)), "")
    assert.strictEqual(History.format(History.attempts(history.events)), "")
  }).pipe(Effect.provide(Surety.layerMemory))
)
