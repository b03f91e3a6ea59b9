/** POSTGRES.md, rules 25 and 28: what is published to another system leaves with the commit, in order, and is not lost. */
import { assert, describe, it } from "@effect/vitest"
import { DeadLetters, Producer, Topic, Transport } from "@surety/core"
import { CompositionError } from "@surety/core/Guarantee"
import * as PgOutbox from "@surety/pg/PgOutbox"
import { Deferred, Effect, Fiber, Layer, Schema, Stream } from "effect"
import * as SqlClient from "effect/sql/SqlClient"
import { type Broker, makeBroker, startAcross, type Target } from "./support/across.ts"
import { changeFunction, cutOffMembers, inDatabase, layerDatabase, until, value } from "./support/nodes.ts"

const Event = Schema.Struct({ id: Schema.String, key: Schema.String })
const Events = Topic.make("events", {
  schema: Event,
  guarantee: "at-least-once",
  id: ({ id }) => id,
  key: ({ key }) => key,
  partitions: 1
})
const outbox = "surety.outbox.memory"

const event = (id: string, key = "k") => ({ id, key })

/** A transaction that has published, and is open until it is told to commit. */
const opened = Effect.fnUntraced(function* (id: string) {
  const sql = yield* SqlClient.SqlClient
  const begun = Deferred.makeUnsafe<void>()
  const end = Deferred.makeUnsafe<void>()
  const fiber = yield* Producer.publish(Events, event(id)).pipe(
    Effect.andThen(Deferred.succeed(begun, undefined)),
    Effect.andThen(Deferred.await(end)),
    sql.withTransaction,
    Effect.forkScoped
  )
  yield* Deferred.await(begun)
  return Effect.andThen(Deferred.succeed(end, undefined), Fiber.join(fiber))
})

describe("the outbox to another system", () => {
  it.live("sends what a transaction publishes once it commits, and nothing of one that rolls back", () =>
    Effect.gen(function* () {
      const broker = yield* makeBroker()
      const node = yield* startAcross(broker)
      const states = yield* node.run(
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const joined = yield* sql.withTransaction(Producer.publish(Events, event("committed")))
          yield* Effect.flip(
            sql.withTransaction(Effect.andThen(Producer.publish(Events, event("rolled back")), Effect.fail("no")))
          )
          const stored = yield* Producer.publish(Events, event("alone"))
          return [joined.state, stored.state]
        })
      )
      assert.deepStrictEqual(states, ["joined", "stored"])
      yield* until(
        "both are sent",
        Effect.sync(() => broker.holds("events").length === 2)
      )
      assert.deepStrictEqual(broker.holds("events"), ["committed", "alone"])
      // What was sent is not kept.
      yield* until(
        "the outbox is empty",
        Effect.map(
          value<number>(
            "SELECT count(*)::integer AS value FROM surety.log l JOIN surety.topic t ON t.id = l.topic WHERE t.name = $1",
            outbox
          ),
          (rows) => rows === 0
        )
      )
    }).pipe(inDatabase)
  )

  /** A transaction publishes first and commits last, once `passed`; others publish and commit meanwhile. */
  const outOfOrder = (passed: (broker: Broker, round: number) => Effect.Effect<void>) =>
    Effect.gen(function* () {
      const broker = yield* makeBroker()
      const node = yield* startAcross(broker, { client: { maxConnections: 20 } })
      yield* node.run(
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          for (let round = 0; round < 5; round++) {
            const commit = yield* opened(`slow ${round}`)
            yield* Effect.forEach(
              Array.from({ length: 10 }, (_, i) => `fast ${round} ${i}`),
              (id) => sql.withTransaction(Producer.publish(Events, event(id))),
              { concurrency: 10 }
            )
            yield* passed(broker, round)
            yield* commit
          }
          yield* Producer.publish(Events, event("last"))
        })
      )
      yield* until(
        "the last one is sent",
        Effect.sync(() => broker.holds("events").includes("last"))
      )
      return broker.holds("events")
    })

  it.live("passes over nothing that commits later than what was published after it", () =>
    Effect.gen(function* () {
      const ids = yield* outOfOrder(() => Effect.void)
      assert.strictEqual(ids.length, 56)
      for (let round = 0; round < 5; round++) {
        const slow = ids.indexOf(`slow ${round}`)
        assert.isAtLeast(slow, 0)
        // In draw order: of one key, it comes before those that were published after it.
        for (let i = 0; i < 10; i++) assert.isBelow(slow, ids.indexOf(`fast ${round} ${i}`))
      }
    }).pipe(inDatabase)
  )

  it.live("would lose them without the publish horizon: the test can fail", () =>
    Effect.gen(function* () {
      yield* Effect.scoped(Effect.flatMap(makeBroker(), startAcross))
      yield* changeFunction("horizon", "RETURN least(v_last, v_lowest)", "RETURN v_last")
      const ids = yield* outOfOrder((broker, round) =>
        until(
          "later ones are sent",
          Effect.sync(() => broker.holds("events").some((id) => id.startsWith(`fast ${round}`)))
        )
      )
      assert.deepStrictEqual(
        ids.filter((id) => id.startsWith("slow")),
        []
      )
    }).pipe(inDatabase)
  )

  it.live("waits while the target is out of reach, and goes on in order", () =>
    Effect.gen(function* () {
      const broker = yield* makeBroker()
      const node = yield* startAcross(broker)
      yield* node.run(Producer.publish(Events, event("0")))
      yield* until(
        "it is sent",
        Effect.sync(() => broker.holds("events").length === 1)
      )
      yield* node.reachBroker(false)
      for (let i = 1; i < 30; i++) yield* node.run(Producer.publish(Events, event(`${i}`)))
      yield* node.reachBroker(true)
      yield* until(
        "all are sent",
        Effect.sync(() => broker.holds("events").length >= 30)
      )
      assert.deepStrictEqual(
        Array.from(new Set(broker.holds("events"))),
        Array.from({ length: 30 }, (_, i) => `${i}`)
      )
    }).pipe(inDatabase)
  )

  it.live("keeps what the target will never take as a dead letter, and sends the others", () =>
    Effect.gen(function* () {
      const broker = yield* makeBroker()
      const node = yield* startAcross(broker, { relay: { shards: 1 } })
      yield* node.atBroker(
        Effect.flatMap(Transport.Transport, ({ declare }) => declare({ name: "other", partitions: 3 }))
      )
      const Other = Topic.make("other", {
        schema: Event,
        guarantee: "at-least-once",
        id: ({ id }) => id,
        partitions: 2
      })
      const found = yield* node.run(
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          yield* sql.withTransaction(
            Effect.all([
              Producer.publish(Events, event("a")),
              Producer.publish(Other, event("b")),
              Producer.publish(Events, event("c"))
            ])
          )
          yield* until(
            "the others are sent",
            Effect.sync(() => new Set(broker.holds("events")).size === 2)
          )
          const letters = yield* DeadLetters.DeadLetters
          yield* until(
            "it is dead",
            Effect.map(Stream.runCollect(letters.list({ topic: outbox })), ({ length }) => length === 1)
          )
          return yield* Stream.runCollect(letters.list({ topic: outbox }))
        })
      )
      assert.deepStrictEqual(
        Array.from(found, ({ failure, group, record }) => [record.id, group, failure.tag]),
        [["b", "relay", "TransportError"]]
      )
    }).pipe(inDatabase)
  )

  it.live("of two outboxes of one name over one schema, the second is refused", () =>
    Effect.gen(function* () {
      const broker = yield* makeBroker()
      const node = yield* startAcross(broker)
      const second = Layer.build(Layer.fresh(PgOutbox.layerRelay()))
      const error = yield* Effect.flip(node.run(second))
      assert.instanceOf(error, CompositionError)
      assert.include(error.message, 'two outboxes "memory"')
      yield* node.run(Effect.scoped(Layer.build(Layer.fresh(PgOutbox.layerRelay({ name: "second" })))))
    }).pipe(inDatabase)
  )

  it.live("the outboxes of two databases do not fence each other at their target", () =>
    Effect.gen(function* () {
      const broker = yield* makeBroker()
      const sends = (id: string) =>
        Effect.gen(function* () {
          const node = yield* startAcross(broker, { relay: { shards: 1 } })
          yield* node.run(Producer.publish(Events, event(id)))
          yield* until(
            `${id} is sent`,
            Effect.sync(() => broker.holds("events").includes(id))
          )
        }).pipe(Effect.scoped)
      // The epochs of the first one are ahead.
      yield* sends("a")
      yield* sends("b")
      yield* Effect.provide(sends("c"), Layer.fresh(layerDatabase))
      assert.deepStrictEqual(broker.holds("events"), ["a", "b", "c"])
    }).pipe(inDatabase)
  )

  /** A sender whose first call is held up until the end, and is taken over meanwhile. */
  const zombie = (fences: boolean) =>
    Effect.gen(function* () {
      const broker = yield* makeBroker()
      const caught = Deferred.makeUnsafe<void>()
      const thaw = Deferred.makeUnsafe<void>()
      const sent = Deferred.makeUnsafe<string>()
      const held =
        (publish: Target["publish"]): Target["publish"] =>
        (topic, records) =>
          Deferred.succeed(caught, undefined).pipe(
            Effect.andThen(Deferred.await(thaw)),
            Effect.andThen(publish(topic, records)),
            Effect.onExit((exit) => Deferred.succeed(sent, exit._tag === "Success" ? "stored" : "refused")),
            Effect.uninterruptible
          )
      const slow = (target: Target): Target => ({
        ...target,
        publish: held(target.publish),
        fencedPublisher: fences ? (lease) => Effect.map(target.fencedPublisher!(lease), held) : undefined
      })
      const plain = (target: Target): Target => (fences ? target : { ...target, fencedPublisher: undefined })
      const relay = { shards: 1 }
      const one = yield* startAcross(broker, { seen: slow, relay, lease: "1 second" })
      yield* one.run(Producer.publishAll(Events, [event("1"), event("2")]))
      yield* Deferred.await(caught)
      const restore = yield* cutOffMembers
      const two = yield* startAcross(broker, { seen: plain, relay, lease: "1 second" })
      yield* until(
        "its successor has sent them",
        Effect.sync(() => broker.holds("events").length === 2)
      )
      yield* two.run(Producer.publish(Events, event("3")))
      yield* until(
        "and what came next",
        Effect.sync(() => broker.holds("events").length === 3)
      )
      yield* Deferred.succeed(thaw, undefined)
      const outcome = yield* Deferred.await(sent)
      yield* restore
      return { outcome, ids: broker.holds("events") }
    })

  it.live("a zombie's late batch is refused by a target that fences", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* zombie(true), { outcome: "refused", ids: ["1", "2", "3"] })
    }).pipe(inDatabase)
  )

  it.live("it arrives behind newer records, under the same ids, at one that does not", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* zombie(false), { outcome: "stored", ids: ["1", "2", "3", "1", "2"] })
    }).pipe(inDatabase)
  )
})
