/** What a consumer's type says, and what a user sees when a failure is undecided or a handler does not fit. */
import {
  type AtLeastOnce,
  type AtMostOnce,
  Channel,
  type ConsumeError,
  Consumer,
  type Envelope,
  type ExactlyOnce,
  Lag,
  Producer,
  Topic,
  Transaction
} from "@surety/core"
import { Context, Effect, type Layer, Schedule, Schema } from "effect"
import { describe, expect, it } from "tstyche"

class Busy extends Schema.TaggedError<Busy>()("Busy", { wait: Schema.Number }) {}
class Invalid extends Schema.TaggedError<Invalid>()("Invalid", {}) {}
class Accounts extends Context.Service<Accounts, { readonly add: Effect.Effect<void, Busy> }>()("test/Accounts") {}
class Audit extends Channel.make("Audit") {}

const Payment = Schema.Struct({ id: Schema.String, amount: Schema.BigInt })
const options = { schema: Payment }
const Payments = Topic.make("payments", { ...options, guarantee: "exactly-once" })
const Orders = Topic.make("orders", { ...options, guarantee: "at-least-once" })
const Metrics = Topic.make("metrics", { ...options, guarantee: "at-most-once" })
const AuditLog = Topic.make("audit", { ...options, guarantee: "exactly-once", channel: Audit })

const fails = (): Effect.Effect<void, Busy | Invalid> => Effect.void
const failing = Consumer.make(Payments, { group: "g", handler: fails })
const running = Consumer.make(Payments, { group: "g", handler: () => Effect.void })

describe("every error is decided", () => {
  it("or there is no layer, and no run", () => {
    // @ts-expect-error Type 'Busy | Invalid' is not assignable to type 'never'.
    Consumer.layer(failing)
    // @ts-expect-error Type 'Busy | Invalid' is not assignable to type 'never'.
    Consumer.run(failing)
    // @ts-expect-error Type 'Invalid' is not assignable to type 'never'.
    failing.pipe(Consumer.deadLetter("Busy"), Consumer.layer)
    // @ts-expect-error Type 'Busy | Invalid' is not assignable to type 'never'.
    failing.pipe(Consumer.retry(Schedule.recurs(3)), Consumer.layer)
    // @ts-expect-error Type 'string' is not assignable to type 'never'.
    Consumer.make(Payments, { group: "g", handler: () => Effect.fail("untagged") }).pipe(Consumer.layer)
  })

  it("one by one, several at once, or the rest", () => {
    type Decided = Consumer.Consumer<typeof Payment.Type, never, ExactlyOnce, "exactly-once">
    expect(failing.pipe(Consumer.deadLetter("Busy"), Consumer.discard("Invalid"))).type.toBe<Decided>()
    expect(failing.pipe(Consumer.stop(["Busy", "Invalid"]))).type.toBe<Decided>()
    expect(failing.pipe(Consumer.discard("Busy"), Consumer.orDeadLetter)).type.toBe<Decided>()
    expect(Consumer.layer(failing.pipe(Consumer.orDeadLetter))).type.toBe<
      Layer.Layer<never, ConsumeError, ExactlyOnce>
    >()
    expect(Consumer.run(running)).type.toBe<Effect.Effect<never, ConsumeError, ExactlyOnce>>()
  })

  it("by tags that it has", () => {
    // @ts-expect-error Argument of type '"Bussy"' is not assignable to parameter of type '"Busy" | "Invalid" | readonly ("Busy" | "Invalid")[]'.
    failing.pipe(Consumer.deadLetter("Bussy"))
    // @ts-expect-error Argument of type '"Busy"' is not assignable to parameter of type '"Invalid" | readonly "Invalid"[]'.
    failing.pipe(Consumer.deadLetter("Busy"), Consumer.discard("Busy"))
    // @ts-expect-error Argument of type '"Bussy"' is not assignable to parameter of type '"Busy" | "Invalid" | readonly ("Busy" | "Invalid")[]'.
    failing.pipe(Consumer.retry("Bussy", Schedule.recurs(3)))
  })
})

describe("retry", () => {
  it("takes a schedule of the error that it names, and leaves the error to be decided", () => {
    const slow = Schedule.recurs(3).pipe(
      Schedule.setInputType<Busy>(),
      Schedule.while(({ input }) => input.wait < 3)
    )
    expect(failing.pipe(Consumer.retry("Busy", slow))).type.toBe<typeof failing>()
    expect(failing.pipe(Consumer.retry(Schedule.recurs(3)))).type.toBe<typeof failing>()
    // @ts-expect-error Type 'Busy' is not assignable to type 'Invalid'
    failing.pipe(Consumer.retry("Busy", Schedule.recurs(3).pipe(Schedule.setInputType<Invalid>())))
    // @ts-expect-error Type 'Busy | Invalid' is not assignable to type 'Busy'
    failing.pipe(Consumer.retry(slow))
    expect(failing.pipe(Consumer.deadLetter("Invalid"), Consumer.retry(slow), Consumer.orDeadLetter)).type.toBe<
      Consumer.Consumer<typeof Payment.Type, never, ExactlyOnce, "exactly-once">
    >()
  })

  it("is not for at-most-once topics, whose handlers start once", () => {
    const once = Consumer.make(Metrics, { group: "g", handler: fails })
    // @ts-expect-error Type '"at-most-once"' is not assignable to type 'Repeatable'.
    once.pipe(Consumer.retry("Busy", Schedule.recurs(3)), Consumer.orDeadLetter)
    // @ts-expect-error Type '"at-most-once"' is not assignable to type 'Repeatable'.
    once.pipe(Consumer.retry(Schedule.recurs(3)), Consumer.orDeadLetter)
    // @ts-expect-error Type '"at-most-once"' is not assignable to type 'Repeatable'.
    once.pipe(Consumer.deadLetter("Busy"), Consumer.retry(Schedule.recurs(3)))
    expect(once.pipe(Consumer.orDeadLetter, Consumer.layer)).type.toBe<Layer.Layer<never, ConsumeError, AtMostOnce>>()
    const twice = Consumer.make(Orders, { group: "g", handler: fails })
    expect(twice.pipe(Consumer.retry("Busy", Schedule.recurs(3)))).type.toBe<typeof twice>()
  })

  it("adds what its schedule requires", () => {
    const schedule: Schedule.Schedule<number, unknown, never, Accounts> = Schedule.recurs(1)
    expect(failing.pipe(Consumer.retry(schedule), Consumer.orDeadLetter, Consumer.layer)).type.toBe<
      Layer.Layer<never, ConsumeError, ExactlyOnce | Accounts>
    >()
  })
})

describe("a handler", () => {
  type Inferred = Consumer.Consumer<typeof Payment.Type, Busy, ExactlyOnce | Accounts, "exactly-once">

  it("is a function, Effect.fn, or a generator in either: its errors and requirements are inferred", () => {
    expect(
      Consumer.make(Payments, { group: "g", handler: () => Effect.flatMap(Accounts, ({ add }) => add) })
    ).type.toBe<Inferred>()
    expect(
      Consumer.make(Payments, {
        group: "g",
        handler: Effect.fn("Ledger.apply")(function* (payment, envelope) {
          expect(payment).type.toBe<typeof Payment.Type>()
          expect(envelope).type.toBe<Envelope.Envelope<typeof Payment.Type>>()
          const { add } = yield* Accounts
          yield* add
        })
      })
    ).type.toBe<Inferred>()
    expect(
      Consumer.make(Payments, {
        group: "g",
        handler: (payment) =>
          Effect.gen(function* () {
            expect(payment.amount).type.toBe<bigint>()
            const { add } = yield* Accounts
            yield* add
          })
      })
    ).type.toBe<Inferred>()
  })

  it("takes the payload of its topic", () => {
    // @ts-expect-error Type 'bigint' is not assignable to type 'number'.
    Consumer.make(Payments, { group: "g", handler: (_: { readonly amount: number }) => Effect.void })
    // @ts-expect-error Property 'sum' does not exist on type '{ readonly id: string; readonly amount: bigint; }'.
    Consumer.make(Payments, { group: "g", handler: (payment) => Effect.succeed(payment.sum) })
    // @ts-expect-error Type 'number' is not assignable to type 'Effect<unknown, unknown, unknown>'.
    Consumer.make(Payments, { group: "g", handler: () => 1 })
  })

  it("has a scope", () => {
    const scoped = () => Effect.acquireRelease(Effect.void, () => Effect.void)
    expect(Consumer.make(Orders, { group: "g", handler: scoped })).type.toBe<
      Consumer.Consumer<typeof Payment.Type, never, AtLeastOnce, "at-least-once">
    >()
  })

  it("requires the guarantees of what it publishes to", () => {
    const publishing = () => Producer.publish(Orders, { id: "a", amount: 1n })
    expect(
      Consumer.make(Payments, { group: "g", handler: publishing }).pipe(Consumer.orDeadLetter, Consumer.layer)
    ).type.toBe<Layer.Layer<never, ConsumeError, ExactlyOnce | AtLeastOnce>>()
  })
})

describe("Transaction", () => {
  const inTransaction = () => Effect.flatMap(Transaction, ({ afterCommit }) => afterCommit(Effect.void))

  it("is given to handlers of exactly-once topics", () => {
    expect(Consumer.layer(Consumer.make(Payments, { group: "g", handler: inTransaction }))).type.toBe<
      Layer.Layer<never, ConsumeError, ExactlyOnce>
    >()
  })

  it("and to no others: it remains to be provided", () => {
    expect(Consumer.layer(Consumer.make(Orders, { group: "g", handler: inTransaction }))).type.toBe<
      Layer.Layer<never, ConsumeError, AtLeastOnce | Transaction>
    >()
    expect(Consumer.layer(Consumer.make(Metrics, { group: "g", handler: inTransaction }))).type.toBe<
      Layer.Layer<never, ConsumeError, AtMostOnce | Transaction>
    >()
    // @ts-expect-error Type 'Transaction' is not assignable to type 'never'.
    Effect.runFork(inTransaction())
    const app = Consumer.layer(Consumer.make(Orders, { group: "g", handler: inTransaction }))
    // @ts-expect-error Type 'Transaction' is not assignable to type 'AtLeastOnce'.
    const served: Layer.Layer<never, ConsumeError, AtLeastOnce> = app
    expect(served).type.not.toBe<typeof app>()
  })

  it("is of the topic's channel", () => {
    expect(Consumer.layer(Consumer.make(AuditLog, { group: "g", handler: inTransaction }))).type.toBe<
      Layer.Layer<never, ConsumeError, Channel.On<ExactlyOnce, Audit> | Transaction>
    >()
    const onAudit = () => Effect.asVoid(Channel.key(Transaction, Audit))
    expect(Consumer.layer(Consumer.make(AuditLog, { group: "g", handler: onAudit }))).type.toBe<
      Layer.Layer<never, ConsumeError, Channel.On<ExactlyOnce, Audit>>
    >()
    expect(Consumer.layer(Consumer.make(Payments, { group: "g", handler: onAudit }))).type.toBe<
      Layer.Layer<never, ConsumeError, ExactlyOnce | Channel.On<Transaction, Audit>>
    >()
  })
})

describe("a topic", () => {
  it("says of messages without an id one of two things", () => {
    Topic.make("payments", { ...options, guarantee: "exactly-once", foreign: "consume" })
    Topic.make("payments", { ...options, guarantee: "exactly-once", foreign: "dead-letter" })
    // @ts-expect-error Type '"discard"' is not assignable to type 'Foreign | undefined'.
    Topic.make("payments", { ...options, guarantee: "exactly-once", foreign: "discard" })
  })
})

describe("the lag of a group", () => {
  it("is measured through the guarantee of its topic", () => {
    expect(Lag.layer(Orders, { group: "g" })).type.toBe<Layer.Layer<never, never, AtLeastOnce>>()
    expect(Lag.layer(AuditLog, { group: "g" })).type.toBe<Layer.Layer<never, never, Channel.On<ExactlyOnce, Audit>>>()
  })
})

describe("publishing", () => {
  it("takes the payload of its topic", () => {
    // @ts-expect-error Type 'number' is not assignable to type 'bigint'.
    Producer.publish(Payments, { id: "a", amount: 1 })
    // @ts-expect-error Property 'amount' is missing in type '{ id: string; }' but required in type
    Producer.publish(Payments, { id: "a" })
    // @ts-expect-error Argument of type 'string' is not assignable to parameter of type
    Producer.publish(Payments, "a")
    // @ts-expect-error Type 'number' is not assignable to type 'bigint'.
    Producer.publishAll(Payments, [{ id: "b", amount: 1 }])
  })

  it("gives several messages no id or key in common", () => {
    // @ts-expect-error 'id' does not exist in type
    Producer.publishAll(Payments, [], { id: "a" })
  })

  it("takes ids and keys from the payload's type", () => {
    Topic.make("a", { schema: Payment, guarantee: "exactly-once", id: ({ id }) => id, key: ({ id }) => id })
    // @ts-expect-error Type 'bigint' is not assignable to type 'string'.
    Topic.make("a", { schema: Payment, guarantee: "exactly-once", id: (payment) => payment.amount })
    // @ts-expect-error Property 'name' does not exist on type
    Topic.make("a", { schema: Payment, guarantee: "exactly-once", key: (payment) => payment.name })
  })
})

describe("services of schemas", () => {
  class Keys extends Context.Service<Keys, string>()("test/Keys") {}
  const Sealed = Topic.make("sealed", {
    schema: Schema.String as Schema.Codec<string, string, Keys, Accounts>,
    guarantee: "at-least-once"
  })

  it("are required at the edge where they are used", () => {
    expect<Effect.Services<ReturnType<typeof publishSealed>>>().type.toBe<AtLeastOnce | Accounts>()
    expect(Consumer.layer(Consumer.make(Sealed, { group: "g", handler: () => Effect.void }))).type.toBe<
      Layer.Layer<never, ConsumeError, AtLeastOnce | Keys>
    >()
  })
  const publishSealed = () => Producer.publish(Sealed, "a")
})

describe("the error of a handler", () => {
  it("is the union of what its branches fail with", () => {
    type Undecided = Consumer.Consumer<typeof Payment.Type, Busy | Invalid, ExactlyOnce, "exactly-once">
    expect(
      Consumer.make(Payments, {
        group: "g",
        handler: ({ id }) =>
          id === "" ? new Invalid() : id === "busy" ? Effect.fail(new Busy({ wait: 1 })) : Effect.succeed(id)
      })
    ).type.toBe<Undecided>()
  })
})
