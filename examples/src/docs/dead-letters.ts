import { NodeRuntime } from "@effect/platform-node"
import { Consumer, DeadLetters, Producer, Surety, Topic } from "@surety/core"
import { Clock, Console, Duration, Effect, Schema, Stream } from "effect"
import { untilSettled } from "../support/untilSettled.ts"

const Mails = Topic.make("mails", { schema: Schema.String, guarantee: "at-least-once", id: (to) => to })

class MailboxFull extends Schema.TaggedError<MailboxFull>()("MailboxFull", {}) {}

const full = new Set(["ada", "grace"])

const Mailer = Consumer.make(Mails, {
  group: "mailer",
  handler: (to) => (full.has(to) ? new MailboxFull() : Console.log(`mail to ${to}`))
}).pipe(Consumer.deadLetter("MailboxFull"), Consumer.layer)

const program = Effect.gen(function* () {
  const deadLetters = yield* DeadLetters.DeadLetters
  yield* Producer.publishAll(Mails, ["ada", "alan", "grace"])
  yield* untilSettled(Mails, "mailer")
  const found = yield* Stream.runCollect(deadLetters.list({ topic: "mails", tag: "MailboxFull" }))
  yield* Console.log("dead:", found.map(({ record }) => record.id).sort())

  full.delete("ada")
  const redriven = yield* deadLetters.redrive({ group: "mailer", id: "ada" })
  yield* untilSettled(Mails, "mailer")
  yield* Console.log("redriven:", redriven)

  const monthAgo = (yield* Clock.currentTimeMillis) - Duration.toMillis("30 days")
  yield* Console.log("purged, older than a month:", yield* deadLetters.purge({ before: monthAgo }))
  yield* Console.log("purged, all:", yield* deadLetters.purge())
})

program.pipe(Effect.provide(Mailer), Effect.provide(Surety.layerMemory), NodeRuntime.runMain)
