import { assert, it } from "@effect/vitest"
import { Consumer, Producer, Surety, Topic } from "@surety/core"
import { Effect, Queue, Schedule, Schema } from "effect"
import { TestClock } from "effect/testing"

const Mails = Topic.make("mails", { schema: Schema.String, guarantee: "at-least-once" })

class ServerBusy extends Schema.TaggedError<ServerBusy>()("ServerBusy", {}) {}

it.effect("tries again after a day", () =>
  Effect.gen(function* () {
    const attempts = yield* Queue.unbounded<number>()
    const Mailer = Consumer.make(Mails, {
      group: "mailer",
      handler: (_, { attempt }) => Effect.andThen(Queue.offer(attempts, attempt), new ServerBusy())
    }).pipe(Consumer.retry(Schedule.spaced("1 day")), Consumer.orDeadLetter, Consumer.layer)

    yield* Effect.gen(function* () {
      yield* Producer.publish(Mails, "ada")
      assert.strictEqual(yield* Queue.take(attempts), 1)
      yield* TestClock.adjust("1 day")
      assert.strictEqual(yield* Queue.take(attempts), 2)
    }).pipe(Effect.provide(Mailer))
  }).pipe(Effect.provide(Surety.layerMemory))
)
