/** POSTGRES.md, rule 24: another system in front of the database, with progress, epochs and dead letters of the database's own. */
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import {
  Consumer,
  DeadLetters,
  Explain,
  Guarantee,
  Inbox,
  MemoryStore,
  Producer,
  Surety,
  Topic,
  Transport
} from "@surety/core"
import * as PgInbox from "@surety/pg/PgInbox"
import * as PgOutbox from "@surety/pg/PgOutbox"
import * as PgSchema from "@surety/pg/PgSchema"
import * as SuretyPg from "@surety/pg/SuretyPg"
import { Cause, Deferred, Effect, Exit, Fiber, Layer, Redacted, Schema, Stream } from "effect"
import { makeBroker, startAcross } from "./support/across.ts"
import {
  changeFunction,
  effect,
  effects,
  inDatabase,
  lease,
  notes,
  start,
  until,
  value,
  values
} from "./support/nodes.ts"

const Payments = Topic.make("payments", {
  schema: Schema.String,
  guarantee: "exactly-once",
  id: (text) => text,
  key: () => "k",
  partitions: 1
})

const Ledger = Consumer.make(Payments, { group: "ledger", handler: (id) => effect(id) }).pipe(Consumer.orDeadLetter)

const handled = (count: number) =>
  until(
    `${count} are handled`,
    Effect.map(effects, ({ length }) => length >= count)
  )

/** The adopted partition, as its consumer holds it. */
const adopted = Effect.gen(function* () {
  const adopting = yield* Inbox.Inbox
  const { inbox, transport } = adopting.adopt!(yield* Transport.Transport)
  const { next } = yield* transport.subscribe({
    topic: Topic.declaration(Payments),
    group: "ledger",
    startFrom: "earliest"
  })
  const assignment = yield* next
  const holder: Inbox.Holder = { topic: "payments", group: "ledger", partition: 0, epoch: assignment.epoch }
  return { assignment, holder, inbox }
})

describe("a transport of another system, with the inbox of the database", () => {
  it.live("handles each message once, and keeps how far it has come", () =>
    Effect.gen(function* () {
      const node = yield* startAcross(yield* makeBroker())
      yield* node.run(Producer.publishAll(Payments, ["a", "b", "a"]))
      yield* Effect.scoped(Effect.andThen(node.run(Consumer.start(Ledger)), handled(2)))
      yield* node.run(Producer.publishAll(Payments, ["c"]))
      yield* Effect.scoped(Effect.andThen(node.run(Consumer.start(Ledger)), handled(3)))
      assert.deepStrictEqual(yield* effects, ["a", "b", "c"])
      assert.deepStrictEqual(
        yield* values(
          `SELECT concat(t.name, ' ', c.settled) AS value FROM surety.topic t
          JOIN surety.consumer_group g ON g.topic = t.id JOIN surety.cursor c ON c.consumer_group = g.id
          WHERE g.name = 'ledger'`
        ),
        ["memory:payments 4"]
      )
      // The source was told, so that its own lag goes by it.
      const there = yield* node.atBroker(
        Effect.flatMap(Transport.Transport, ({ progress }) => progress("payments", "ledger"))
      )
      assert.deepStrictEqual(there, [{ partition: 0, settled: 4, lag: 0, parked: 0 }])
    }).pipe(inDatabase)
  )

  /** Two take the partition one after the other, while the first has a transaction open. */
  const takeover = Effect.gen(function* () {
    const broker = yield* makeBroker()
    const one = yield* startAcross(broker)
    yield* one.run(Producer.publish(Payments, "a"))
    const former = yield* one.run(adopted)
    const [record] = yield* former.assignment.claim(1)
    const inside = Deferred.makeUnsafe<void>()
    const thaw = Deferred.makeUnsafe<void>()
    const body = Effect.gen(function* () {
      yield* former.inbox.admit(former.holder, [{ id: "a", outcome: "handled" }])
      yield* effect("by a zombie")
      yield* Deferred.succeed(inside, undefined)
      yield* Deferred.await(thaw)
      yield* former.assignment.settle(record!.offset)
    })
    const frozen = yield* Effect.forkScoped(one.run(former.inbox.transaction(former.holder, body)))
    yield* Deferred.await(inside)
    yield* one.reachBroker(false)
    const successor = yield* Effect.flatMap(startAcross(broker), (two) => two.run(adopted))
    yield* Deferred.succeed(thaw, undefined)
    return { former, outcome: yield* Fiber.await(frozen), successor }
  })

  it.live("a takeover ends the transaction of who had the partition, and the message is the successor's", () =>
    Effect.gen(function* () {
      const { former, outcome, successor } = yield* takeover
      assert.isTrue(Exit.isFailure(outcome))
      assert.deepStrictEqual(yield* effects, [])
      const { assignment, holder, inbox } = successor
      assert.strictEqual(assignment.epoch, former.assignment.epoch + 1)
      const claimed = yield* assignment.claim(10)
      assert.deepStrictEqual(
        claimed.map(({ id }) => id),
        ["a"]
      )
      const admitted = yield* inbox.transaction(holder, inbox.admit(holder, [{ id: "a", outcome: "handled" }]))
      assert.deepStrictEqual(admitted, [true])
      const { reason } = yield* Effect.flip(former.assignment.settle(claimed[0]!.offset))
      assert.strictEqual(reason._tag, "Fenced")
    }).pipe(inDatabase)
  )

  it.live(
    "without an epoch of the inbox's own, nor an end of the transaction, the zombie commits: the test can fail",
    () =>
      Effect.gen(function* () {
        yield* Effect.scoped(Effect.flatMap(makeBroker(), startAcross))
        yield* changeFunction("adopt", "SET epoch = c.epoch + 1", "SET epoch = greatest(c.epoch, 1)")
        yield* changeFunction("terminate", "PERFORM pg_terminate_backend(l.pid)", "PERFORM l.pid")
        yield* takeover
        assert.deepStrictEqual(yield* effects, ["by a zombie"])
      }).pipe(inDatabase)
  )

  it.live("says what is missing where the source no longer has it, and goes on once the group was moved", () =>
    Effect.gen(function* () {
      const first = yield* startAcross(yield* makeBroker())
      yield* first.run(Producer.publishAll(Payments, ["a", "b", "c"]))
      yield* Effect.scoped(Effect.andThen(first.run(Consumer.start(Ledger)), handled(3)))
      // The same topic, made anew: what it holds lies before the place where the group is to go on.
      const second = yield* startAcross(yield* makeBroker(), { relay: { name: "second" } })
      yield* second.run(Producer.publishAll(Payments, ["b", "d"]))
      const { failure } = yield* second.run(Consumer.start(Ledger))
      const { message, reason } = yield* Effect.flip(failure)
      assert.strictEqual(reason._tag, "TransportFailed")
      assert.include(message, 'group "ledger" is to go on after offset 3 of partition 0')
      const position = { topic: "memory:payments", group: "ledger", partition: 0, offset: 0 }
      yield* second.run(PgInbox.moveTo(position))
      yield* Effect.scoped(Effect.andThen(second.run(Consumer.start(Ledger)), handled(4)))
      // What it goes back over is known by its id.
      assert.deepStrictEqual(yield* effects, ["a", "b", "c", "d"])
      const wrong = yield* Effect.flip(second.run(PgInbox.moveTo({ ...position, topic: "payments" })))
      assert.strictEqual(wrong.reason._tag, "InvalidState")
    }).pipe(inDatabase)
  )

  it.live("a log of PostgreSQL knows what its retention has dropped", () =>
    Effect.gen(function* () {
      const node = yield* start()
      yield* node.publish({ id: "a" }, { id: "b" }, { id: "c" })
      const { assignment } = yield* lease(node, notes())
      const offsets = (yield* assignment.claim(10)).map(({ offset }) => offset)
      yield* assignment.settle(offsets[1]!)
      yield* value("SELECT surety.trim_log(interval '0', interval '0', 100) AS value")
      yield* assignment.seek(offsets[1]!)
      const { message, reason } = yield* Effect.flip(assignment.seek(offsets[0]!))
      assert.deepInclude(reason, { _tag: "RecordsGone", settled: offsets[0] })
      assert.include(message, `dropped it up to offset ${offsets[1]}`)
    }).pipe(inDatabase)
  )

  it.live("keeps dead letters with it, by the topic's own name, and redrives them", () =>
    Effect.gen(function* () {
      const node = yield* startAcross(yield* makeBroker())
      let healthy = false
      const Fragile = Consumer.make(Payments, {
        group: "ledger",
        handler: (id) => (healthy ? effect(id) : Effect.fail({ _tag: "Broken" as const }))
      }).pipe(Consumer.deadLetter("Broken"))
      yield* node.run(Consumer.start(Fragile))
      yield* node.run(Producer.publish(Payments, "a"))
      const letters = yield* node.run(DeadLetters.DeadLetters)
      const found = Stream.runCollect(letters.list({ topic: "payments" }))
      yield* until(
        "it is dead",
        Effect.map(found, ({ length }) => length === 1)
      )
      const letter = (yield* found)[0]!
      assert.deepInclude(letter, { topic: "payments", group: "ledger", attempts: 1 })
      const { offset, partition } = letter.record
      assert.strictEqual((yield* letters.get({ topic: "payments", group: "ledger", partition, offset }))._tag, "Some")
      healthy = true
      assert.strictEqual(yield* letters.redrive({ topic: "memory:payments" }), 1)
      yield* handled(1)
      assert.deepStrictEqual(yield* effects, ["a"])
    }).pipe(inDatabase)
  )

  it.live("two transports of one kind cannot both keep a group of one name", () =>
    Effect.gen(function* () {
      const one = yield* startAcross(yield* makeBroker())
      yield* one.run(Consumer.start(Ledger))
      const inbox = yield* one.run(Inbox.Inbox)
      const other = yield* startAcross(yield* makeBroker(), { relay: { name: "other" } })
      const { transport } = inbox.adopt!(yield* other.atBroker(Transport.Transport))
      const { message } = yield* Effect.flip(
        transport.subscribe({ topic: Topic.declaration(Payments), group: "ledger", startFrom: "earliest" })
      )
      assert.include(message, "two memory transports have a topic of this name")
    }).pipe(inDatabase)
  )
})

describe("the composition", () => {
  const guaranteed = (retention: PgSchema.Retention) =>
    Guarantee.ExactlyOnce.layer.pipe(
      Layer.provide(Guarantee.AtLeastOnce.layer),
      Layer.provide(Transport.layerMemory),
      Layer.provide(MemoryStore.options({ retention: { log: "1 hour" } })),
      Layer.provide(Layer.mergeAll(PgInbox.layer, PgOutbox.layer)),
      Layer.provide(PgSchema.layerWith({ retention })),
      Layer.provideMerge(PgClient.layer({ url: Redacted.make("postgres://nobody@127.0.0.1:1/none") }))
    )

  it.effect("is refused with an inbox that forgets, and says why", () =>
    Effect.gen(function* () {
      const app = Layer.provide(Consumer.layer(Ledger), guaranteed({ inbox: "90 days" }))
      const exit = yield* Effect.exit(Surety.explain(app))
      assert.include(
        Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "",
        "a message may wait in the memory transport for as long as its group lags"
      )
    })
  )

  it.effect("through an outbox, too, explains itself without a connection, also twice", () =>
    Effect.gen(function* () {
      const live = SuretyPg.layerAcross().pipe(
        Layer.provide(Transport.layerMemory),
        Layer.provide(PgSchema.layer),
        Layer.provideMerge(PgClient.layer({ url: Redacted.make("postgres://nobody@127.0.0.1:1/none") }))
      )
      for (let time = 0; time < 2; time++) {
        const { topics } = yield* Surety.explain(Layer.provide(Consumer.layer(Ledger), live))
        // The relay's own consumer is no part of the app.
        assert.deepStrictEqual(
          topics.map(({ name }) => name),
          ["payments"]
        )
        const { layer, possible } = topics[0]!.parts[0]!
        assert.strictEqual(layer, "PgOutbox.layerRelay over Transport.layerMemory")
        assert.include(possible, "a sender that ends may send records again, under the same ids")
      }
    })
  )

  it.effect("explains itself: each link, and what a group does that lags too far", () =>
    Effect.gen(function* () {
      const explained = yield* Surety.explain(Layer.provide(Consumer.layer(Ledger), guaranteed({})))
      const topic = explained.topics[0]!
      assert.deepStrictEqual(
        topic.parts.map(({ layer }) => layer),
        ["Transport.layerMemory", "ExactlyOnce.layer", "PgInbox.layer", "PgOutbox.layer"]
      )
      assert.deepInclude(topic.weakestLink, { link: "Transport.layerMemory", allows: "loss" })
      assert.include(Explain.toText(explained), "RecordsGone")
    })
  )
})
