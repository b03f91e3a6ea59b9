import { NodeRuntime } from "@effect/platform-node"
import { Consumer, Diagnostics, Producer, Surety, Topic } from "@surety/core"
import { Console, Effect, Fiber, Layer, Schedule, Schema, Stream } from "effect"

const Mails = Topic.make("mails", { schema: Schema.String, guarantee: "exactly-once", id: (to) => to })

class ServerBusy extends Schema.TaggedError<ServerBusy>()("ServerBusy", {}) {}

const Mailer = Consumer.make(Mails, {
  group: "mailer",
  handler: (_, { attempt }) => (attempt === 1 ? new ServerBusy() : Effect.void)
}).pipe(Consumer.retry(Schedule.recurs(3)), Consumer.orDeadLetter, Consumer.layer)

const program = Effect.gen(function* () {
  // A test waits in this way for what it is about, instead of sleeping.
  const watching = yield* Diagnostics.events.pipe(
    Stream.filter((event) => "id" in event),
    Stream.takeUntil((event) => event._tag === "Handled"),
    Stream.runForEach(({ _tag, attempt, id }) => Console.log(`${_tag} ${id}, attempt ${attempt}`)),
    Effect.forkChild({ startImmediately: true })
  )
  yield* Producer.publish(Mails, "ada")
  yield* Fiber.join(watching).pipe(Effect.provide(Mailer))
})

program.pipe(Effect.provide(Layer.provideMerge(Surety.layerMemory, Diagnostics.layer)), NodeRuntime.runMain)
