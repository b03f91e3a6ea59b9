import { NodeRuntime } from "@effect/platform-node"
import { Consumer, Explain, Producer, Surety, Topic } from "@surety/core"
import { Console, Effect, Layer, Schedule, Schema } from "effect"

const Mails = Topic.make("mails", { schema: Schema.String, guarantee: "at-least-once", id: (to) => to })
const Payments = Topic.make("payments", { schema: Schema.Int, guarantee: "exactly-once" })

class ServerBusy extends Schema.TaggedError<ServerBusy>()("ServerBusy", {}) {}

const Mailer = Consumer.make(Mails, { group: "mailer", handler: () => new ServerBusy() }).pipe(
  Consumer.retry("ServerBusy", Schedule.exponential("1 second").pipe(Schedule.upTo({ times: 3 }))),
  Consumer.discard("ServerBusy"),
  Consumer.layer
)
const Ledger = Consumer.make(Payments, {
  group: "ledger",
  handler: () => Producer.publish(Mails, "ada")
}).pipe(Consumer.orDeadLetter, Consumer.layer)

// What handlers publish is not seen before they run: it is said.
const App = Layer.mergeAll(Mailer, Ledger, Explain.publishing(Mails)).pipe(Layer.provide(Surety.layerMemory))

const program = Effect.gen(function* () {
  const { topics } = yield* Surety.explain(App) // nothing is joined, published or connected to
  for (const { assumptions, declared, derived, groups, name, producer, weakestLink } of topics) {
    yield* Console.log(`${name}: ${derived}, declared ${declared}${producer.here ? ", published here" : ""}`)
    for (const { failures, name } of groups) yield* Console.log(`  ${name}: ${JSON.stringify(failures[0])}`)
    yield* Console.log(`  ${weakestLink?.link}: ${weakestLink?.allows} ${weakestLink?.when}`)
    yield* Console.log(`  raised by ${weakestLink?.raisedBy}`)
    for (const { holds, known } of assumptions) yield* Console.log(`  assumed, ${known}: ${holds}`)
  }
  // For CI: a topic, and what it has to be.
  yield* Surety.check(App, { mails: "at-least-once" }).pipe(
    Effect.catchTag("GuaranteeNotMet", ({ message }) => Console.log(message))
  )
})

NodeRuntime.runMain(program)
