/**
 * At-least-once: mails that must go out, through a server that is often busy.
 * None is forgotten; one may go out twice, when the process ends between the
 * server's yes and the acknowledgement.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Consumer, DeadLetters, Producer, Surety, Topic } from "@surety/core"
import { Console, Context, Effect, Layer, Schedule, Schema, Stream } from "effect"
import { untilSettled } from "./support/untilSettled.ts"

const Mail = Schema.Struct({ to: Schema.String, subject: Schema.String })

const Mails = Topic.make("mails", {
  schema: Mail,
  guarantee: "at-least-once",
  key: (mail) => mail.to // the mails to one address stay in order
})

export class ServerBusy extends Schema.TaggedError<ServerBusy>()("ServerBusy", {}) {}
class NoSuchAddress extends Schema.TaggedError<NoSuchAddress>()("NoSuchAddress", { address: Schema.String }) {}

export class MailServer extends Context.Service<
  MailServer,
  { readonly send: (mail: typeof Mail.Type) => Effect.Effect<void, ServerBusy | NoSuchAddress> }
>()("@surety/examples/MailServer") {}

/** Each failure is decided; a consumer that leaves one open has no layer. */
const Notifications = Consumer.make(Mails, {
  group: "notifications",
  concurrency: 4,
  handler: (mail) => MailServer.use((server) => server.send(mail))
}).pipe(
  Consumer.retry("ServerBusy", Schedule.exponential("20 millis").pipe(Schedule.jittered, Schedule.upTo({ times: 8 }))),
  Consumer.deadLetter(["ServerBusy", "NoSuchAddress"]),
  Consumer.layer
)

export const program = Effect.gen(function* () {
  yield* Producer.publishAll(Mails, [
    { to: "ada@example.com", subject: "Welcome" },
    { to: "nobody@example.org", subject: "Welcome" },
    { to: "grace@example.com", subject: "Welcome" }
  ])
  yield* untilSettled(Mails, "notifications")
  const deadLetters = yield* DeadLetters.DeadLetters
  return yield* Stream.runCollect(deadLetters.list({ topic: "mails" }))
}).pipe(Effect.provide(Notifications), Effect.provide(Surety.layerMemory))

/** Busy twice before it takes a mail; knows nobody at example.org. */
const flakyServer = Layer.sync(MailServer, () => {
  const tries = new Map<string, number>()
  return {
    send: Effect.fn("MailServer.send")(function* ({ to }) {
      if (to.endsWith("@example.org")) return yield* new NoSuchAddress({ address: to })
      const attempt = (tries.get(to) ?? 0) + 1
      tries.set(to, attempt)
      if (attempt < 3) return yield* new ServerBusy()
      yield* Console.log(`sent to ${to}, attempt ${attempt}`)
    })
  }
})

if (import.meta.main) {
  program.pipe(
    Effect.flatMap((letters) =>
      Console.log(
        "dead letters:",
        letters.map(({ failure, record }) => `${record.key}: ${failure.tag}`)
      )
    ),
    Effect.provide(flakyServer),
    NodeRuntime.runMain
  )
}
