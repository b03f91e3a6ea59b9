/**
 * A real Kafka in front of the database, behind it, and between two (POSTGRES.md, rules 24 and 25). Under kills of
 * processes: the example `two-ledgers`.
 */
import { assert, it } from "@effect/vitest"
import { Consumer, Inbox, Producer, Topic, Transport } from "@surety/core"
import * as KafkaClient from "@surety/kafka/KafkaClient"
import * as PgInbox from "@surety/pg/PgInbox"
import * as TestKafka from "@surety/testing/TestKafka"
import * as TestPostgres from "@surety/testing/TestPostgres"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { connect, create } from "../src/internal/cluster.ts"
import { call } from "../src/internal/librdkafka.ts"
import { earliest, stable } from "../src/internal/offsets.ts"
import { type Database, database, effect, holds, type Node, startAcross, type Target } from "./support/across.ts"
import { describeKafka } from "./support/kafka.ts"
import { uniqueName, until } from "./support/node.ts"
import { Proxy } from "./support/proxy.ts"

/** In one sequence. */
const payments = () =>
  Topic.make(uniqueName("payments"), {
    schema: Schema.String,
    guarantee: "exactly-once",
    id: (text) => text,
    key: () => "k",
    partitions: 1
  })
type Payments = ReturnType<typeof payments>

/** The same topic, as a program without a database publishes to it. */
const foreign = ({ name }: Payments) =>
  Topic.make(name, {
    schema: Schema.String,
    guarantee: "at-least-once",
    id: (text) => text,
    key: () => "k",
    partitions: 1
  })

const group = "ledger"
const ledger = (topic: Payments) =>
  Consumer.make(topic, { group, handler: (id) => effect(id) }).pipe(Consumer.orDeadLetter)

const has = (db: Database, count: number) => until(Effect.map(db.effects, ({ length }) => length >= count))

/** The first offset of what a partition holds, and the one behind its end. */
const bounds = (topic: Payments) =>
  Effect.gen(function* () {
    const cluster = yield* KafkaClient.KafkaClient
    const declared = { name: topic.name, partitions: 1 }
    return { first: (yield* earliest(cluster, declared)).get(0)!, end: (yield* stable(cluster, declared)).get(0)! }
  })

/** What retention does in time: everything before an offset is gone. */
const drop = (topic: Payments, offset: number) =>
  Effect.gen(function* () {
    const { admin } = yield* KafkaClient.KafkaClient
    yield* call(admin, (callback) =>
      admin.deleteRecords(
        [{ topic: topic.name, partition: 0, offset }],
        { timeout: 10_000, operationTimeout: 10_000 },
        callback as never
      )
    )
    yield* until(Effect.map(bounds(topic), ({ first }) => first >= offset))
  })

/** Handles what there is, until Kafka has been told so, and leaves the group. */
const settling = (node: Node, topic: Payments) =>
  Effect.scoped(
    Effect.andThen(
      node.run(Consumer.start(ledger(topic))),
      Effect.flatMap(Transport.Transport, ({ progress }) => progress(topic.name, group)).pipe(
        // Before the group is known, there is none to ask for.
        Effect.match({ onFailure: () => false, onSuccess: (known) => known.every(({ lag }) => lag === 0) }),
        node.atKafka,
        until
      )
    )
  )

/** As a tool does that is asked to reset a group. */
const reset = (topic: Payments, offset: number) =>
  Effect.gen(function* () {
    const { connection, groupId, library } = yield* KafkaClient.KafkaClient
    const settings = { ...connection, "group.id": groupId(group, topic.name) }
    const tool = yield* connect(yield* create(() => new library.KafkaConsumer(settings as never, {})), 30_000)
    tool.commitSync({ topic: topic.name, partition: 0, offset })
  }).pipe(Effect.scoped)

/** Handles until so many effects are there, and leaves the group. */
const handling = (node: Node, topic: Payments, db: Database, count: number) =>
  Effect.scoped(
    Effect.flatMap(node.run(Consumer.start(ledger(topic))), ({ failure }) => Effect.raceFirst(has(db, count), failure))
  )

/** Waits until a topic holds so many records, and returns their ids. */
const held = (node: Node, topic: { readonly name: string }, count: number) =>
  node.atKafka(Effect.andThen(until(Effect.map(holds(topic.name), (ids) => ids.length >= count)), holds(topic.name)))

/** The adopted partition, as its consumer holds it. */
const adopted = (topic: Payments) =>
  Effect.gen(function* () {
    const adopting = yield* Inbox.Inbox
    const { inbox, transport } = adopting.adopt!(yield* Transport.Transport)
    const { next } = yield* transport.subscribe({ topic: Topic.declaration(topic), group, startFrom: "earliest" })
    const assignment = yield* next
    const holder: Inbox.Holder = { topic: topic.name, group, partition: 0, epoch: assignment.epoch }
    return { assignment, holder, inbox }
  })

const quiet = <A, E, R>(test: Effect.Effect<A, E, R>) =>
  Effect.scoped(test).pipe(
    Effect.provide(TestPostgres.layer),
    Effect.provideService(References.MinimumLogLevel, "Error")
  )

describeKafka("Kafka in front of the database", () => {
  it.live("each message is handled once, and Kafka is told how far the group has come", () =>
    Effect.gen(function* () {
      const topic = payments()
      const db = yield* database
      const node = yield* startAcross(db)
      yield* node.atKafka(Producer.publishAll(foreign(topic), ["a", "b", "a"]))
      yield* settling(node, topic)
      yield* node.atKafka(Producer.publish(foreign(topic), "c"))
      yield* handling(node, topic, db, 3)
      assert.deepStrictEqual(yield* db.effects, ["a", "b", "c"])
      assert.deepStrictEqual(
        yield* db.strings(
          `SELECT concat(t.name, ' ', c.settled) AS value FROM surety.topic t
          JOIN surety.consumer_group g ON g.topic = t.id JOIN surety.cursor c ON c.consumer_group = g.id
          WHERE g.name = $1`,
          group
        ),
        [`kafka:${topic.name} 3`]
      )
    }).pipe(quiet)
  )

  for (const offset of [0, 4]) {
    it.live(`the group goes on where the inbox is, though Kafka was told that it is at ${offset}`, () =>
      Effect.gen(function* () {
        const topic = payments()
        const db = yield* database
        const node = yield* startAcross(db)
        yield* node.atKafka(Producer.publishAll(foreign(topic), ["a", "b"]))
        yield* handling(node, topic, db, 2)
        // Ids alone would keep what is gone back over from being handled again.
        yield* db.sql`DELETE FROM surety.inbox`
        yield* node.atKafka(Producer.publishAll(foreign(topic), ["c", "d"]))
        yield* node.atKafka(reset(topic, offset))
        yield* handling(node, topic, db, 4)
        assert.deepStrictEqual(yield* db.effects, ["a", "b", "c", "d"])
      }).pipe(quiet)
    )
  }

  it.live("stops where Kafka no longer has what comes next, says what, and goes on once it was moved", () =>
    Effect.gen(function* () {
      const topic = payments()
      const db = yield* database
      const node = yield* startAcross(db)
      yield* node.atKafka(Producer.publishAll(foreign(topic), ["a", "b"]))
      yield* handling(node, topic, db, 2)
      yield* node.atKafka(Producer.publishAll(foreign(topic), ["c", "d"]))
      yield* node.atKafka(drop(topic, 3))
      const { failure } = yield* node.run(Consumer.start(ledger(topic)))
      const { message } = yield* Effect.flip(failure)
      assert.include(message, `group "${group}" is to go on after offset 1 of partition 0`)
      assert.include(message, "offsets from 3 to before 4")
      yield* node.run(PgInbox.moveTo({ topic: `kafka:${topic.name}`, group, partition: 0, offset: 2 }))
      yield* handling(node, topic, db, 3)
      assert.deepStrictEqual(yield* db.effects, ["a", "b", "d"])
    }).pipe(quiet)
  )

  it.live("a log that retention has emptied holds what comes next, if all of it was handled", () =>
    Effect.gen(function* () {
      const topic = payments()
      const db = yield* database
      const node = yield* startAcross(db)
      // By the relay: in a transaction, whose marker takes an offset of its own.
      yield* node.run(Producer.publishAll(topic, ["a", "b"]))
      yield* held(node, topic, 2)
      yield* settling(node, topic)
      const { end } = yield* node.atKafka(bounds(topic))
      assert.isAbove(end, 2)
      yield* node.atKafka(drop(topic, end))
      yield* node.run(Producer.publish(topic, "c"))
      yield* handling(node, topic, db, 3)
      assert.deepStrictEqual(yield* db.effects, ["a", "b", "c"])
    }).pipe(quiet)
  )

  it.live("a worker that Kafka has given up cannot commit once another one has its partition", () =>
    Effect.gen(function* () {
      const topic = payments()
      const db = yield* database
      let listeners: ReadonlyArray<number> = []
      const network = yield* Effect.acquireRelease(
        Effect.promise(() => Proxy.make(() => listeners[0]!)),
        (proxy) => Effect.sync(() => proxy.close())
      )
      const kafka = yield* Layer.build(TestKafka.layerWith({ advertised: [network.port] }))
      const broker = Context.get(kafka, TestKafka.TestKafka)
      listeners = broker.listeners
      const one = yield* startAcross({ ...db, kafka: { bootstrapServers: `127.0.0.1:${network.port}` } })
      yield* one.atKafka(Producer.publish(foreign(topic), "a"))
      const former = yield* one.run(adopted(topic))
      const [record] = yield* former.assignment.claim(1)
      const inside = Deferred.makeUnsafe<void>()
      const thaw = Deferred.makeUnsafe<void>()
      const zombie = yield* Effect.gen(function* () {
        yield* former.inbox.admit(former.holder, [{ id: "a", outcome: "handled" }])
        yield* effect("by a zombie")
        yield* Deferred.succeed(inside, undefined)
        yield* Deferred.await(thaw)
        yield* former.assignment.settle(record!.offset)
      }).pipe((body) => Effect.forkScoped(one.run(former.inbox.transaction(former.holder, body))))
      yield* Deferred.await(inside)
      network.cut("frozen")
      const two = yield* startAcross({ ...db, kafka: { bootstrapServers: broker.bootstrapServers } })
      yield* Effect.andThen(two.run(Consumer.start(ledger(topic))), has(db, 1))
      yield* Deferred.succeed(thaw, undefined)
      assert.isTrue(Exit.isFailure(yield* Fiber.await(zombie)))
      assert.deepStrictEqual(yield* db.effects, ["a"])
      network.mend()
    }).pipe(quiet)
  )
})

const out = () =>
  Topic.make(uniqueName("out"), {
    schema: Schema.String,
    guarantee: "at-least-once",
    id: (text) => text,
    key: () => "k",
    partitions: 1
  })

describeKafka("Kafka behind the database", () => {
  it.live(
    "has what a transaction published once it is committed, in order, and nothing of one that was rolled back",
    () =>
      Effect.gen(function* () {
        const topic = out()
        const db = yield* database
        const node = yield* startAcross(db)
        yield* node.run(
          Effect.gen(function* () {
            const sql = yield* SqlClient.SqlClient
            for (let index = 0; index < 20; index++) {
              const body = Effect.andThen(effect(`${index}`), Producer.publish(topic, `${index}`))
              const ends = index % 5 === 3 ? Effect.andThen(body, Effect.fail("no" as const)) : body
              yield* Effect.ignore(sql.withTransaction(ends))
            }
          })
        )
        const kept = yield* db.effects
        assert.strictEqual(kept.length, 16)
        assert.deepStrictEqual(yield* held(node, topic, 16), kept)
      }).pipe(quiet)
  )

  it.live("has all of it in the end, each once, though the broker was away", () =>
    Effect.gen(function* () {
      const topic = out()
      const db = yield* database
      const broker = yield* TestKafka.TestKafka
      const node = yield* startAcross({ ...db, kafka: { bootstrapServers: broker.bootstrapServers } })
      const ids = Array.from({ length: 50 }, (_, index) => `${index}`)
      yield* node.run(Producer.publishAll(topic, ids.slice(0, 10)))
      yield* held(node, topic, 10)
      // The client for administration ends the process, asked for this while the group's broker is not there yet (rule 14).
      const asked = Effect.flatMap(Transport.Transport, ({ progress }) => progress(topic.name, group))
      yield* Effect.forkScoped(
        Effect.forever(Effect.andThen(Effect.ignore(node.atKafka(asked)), Effect.sleep("10 millis")))
      )
      yield* broker.stop("hard")
      yield* node.run(Producer.publishAll(topic, ids.slice(10, 40)))
      yield* broker.start
      yield* node.run(Producer.publishAll(topic, ids.slice(40)))
      assert.deepStrictEqual(yield* held(node, topic, 50), ids)
    }).pipe(quiet, Effect.provide(TestKafka.layerEmbedded))
  )

  it.live("refuses the late batch of a sender that was taken over", () =>
    Effect.gen(function* () {
      const topic = out()
      const db = yield* database
      const caught = Deferred.makeUnsafe<void>()
      const thaw = Deferred.makeUnsafe<void>()
      const sent = Deferred.makeUnsafe<string>()
      const slow = (target: Target): Target => ({
        ...target,
        fencedPublisher: (lease) =>
          Effect.map(
            target.fencedPublisher!(lease),
            (publish) => (declaration, records) =>
              Deferred.succeed(caught, undefined).pipe(
                Effect.andThen(Deferred.await(thaw)),
                Effect.andThen(publish(declaration, records)),
                Effect.onExit((exit) => Deferred.succeed(sent, Exit.isSuccess(exit) ? "stored" : `${exit.cause}`)),
                Effect.uninterruptible
              )
          )
      })
      const relay = { shards: 1 }
      const server = new URL(Redacted.value(db.url))
      const network = yield* Effect.acquireRelease(
        Effect.promise(() => Proxy.make(() => Number(server.port))),
        (proxy) => Effect.sync(() => proxy.close())
      )
      const url = Redacted.make(`${Object.assign(new URL(server), { port: `${network.port}` })}`)
      const one = yield* startAcross({ url, relay, seen: slow, lease: "1 second" })
      yield* one.run(Producer.publishAll(topic, ["1", "2"]))
      yield* Deferred.await(caught)
      // Its lease ends, and it does not know.
      network.cut("frozen")
      const two = yield* startAcross({ ...db, relay })
      yield* held(two, topic, 2)
      yield* two.run(Producer.publish(topic, "3"))
      yield* held(two, topic, 3)
      yield* Deferred.succeed(thaw, undefined)
      assert.include(yield* Deferred.await(sent), "no longer holds partition 0; its work was refused")
      network.mend()
      assert.deepStrictEqual(yield* held(two, topic, 3), ["1", "2", "3"])
    }).pipe(quiet)
  )
})
