import { NodeRuntime } from "@effect/platform-node"
import { Consumer, DeadLetters, Producer, Surety, Topic } from "@surety/core"
import { Console, Effect, Schedule, Schema, Stream } from "effect"
import { untilSettled } from "../support/untilSettled.ts"

const Mails = Topic.make("mails", { schema: Schema.String, guarantee: "at-least-once", id: (to) => to })

class ServerBusy extends Schema.TaggedError<ServerBusy>()("ServerBusy", {}) {}
class MailboxFull extends Schema.TaggedError<MailboxFull>()("MailboxFull", {}) {}
class Unsubscribed extends Schema.TaggedError<Unsubscribed>()("Unsubscribed", {}) {}

const send = Effect.fn("send")(function* (to: string, attempt: number) {
  yield* Console.log(`${to}, attempt ${attempt}`)
  if (to === "ada" && attempt < 3) return yield* new ServerBusy()
  if (to === "grace") return yield* new MailboxFull()
  if (to === "alan") return yield* new Unsubscribed()
  if (to === "edsger" && attempt === 1) return yield* Consumer.retryAfter("50 millis") // as the server has asked
  if (to === "nobody") return yield* Consumer.reject("not an address") // to the dead letters, whatever the rules say
})

const Mailer = Consumer.make(Mails, {
  group: "mailer",
  handler: (to, { attempt }) => send(to, attempt)
}).pipe(
  Consumer.retry("ServerBusy", Schedule.exponential("10 millis").pipe(Schedule.jittered, Schedule.upTo({ times: 5 }))),
  Consumer.deadLetter(["ServerBusy", "MailboxFull"]),
  Consumer.discard("Unsubscribed"),
  Consumer.layer // compiles, since nothing is left undecided
)

const program = Effect.gen(function* () {
  for (const to of ["ada", "grace", "alan", "edsger", "nobody"]) {
    yield* Producer.publish(Mails, to)
    yield* untilSettled(Mails, "mailer")
  }
  const deadLetters = yield* DeadLetters.DeadLetters
  yield* Stream.runForEach(deadLetters.list(), ({ attempts, failure, record }) =>
    Console.log(`dead letter: ${record.id}, ${failure.tag}, attempts: ${attempts}`)
  )
})

program.pipe(Effect.provide(Mailer), Effect.provide(Surety.layerMemory), NodeRuntime.runMain)
