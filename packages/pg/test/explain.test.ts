import { once } from "node:events"
import { type AddressInfo, connect, createServer } from "node:net"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import {
  AtLeastOnce,
  Channel,
  Consumer,
  ExactlyOnce,
  type Explain,
  type Guarantee,
  Producer,
  Surety,
  Topic
} from "@surety/core"
import { CompositionError } from "@surety/core/Guarantee"
import * as PgInbox from "@surety/pg/PgInbox"
import * as PgOutbox from "@surety/pg/PgOutbox"
import * as PgSchema from "@surety/pg/PgSchema"
import * as PgTransport from "@surety/pg/PgTransport"
import * as SuretyPg from "@surety/pg/SuretyPg"
import * as TestPostgres from "@surety/testing/TestPostgres"
import { Effect, Layer, Redacted, Schema } from "effect"
import { SqlClient } from "effect/sql"

const topic = <const G extends Guarantee.Name, C = Channel.Default>(guarantee: G, channel?: Channel.ChannelClass<C>) =>
  Topic.make("payments", { schema: Schema.String, guarantee, id: (id) => id, channel })

const reading = <const G extends Guarantee.Name, C = Channel.Default>(topic: Topic.Topic<typeof Schema.String, G, C>) =>
  Consumer.layer(Consumer.make(topic, { group: "ledger", handler: () => Effect.void }))

const Ledger = Consumer.make(topic("exactly-once"), {
  group: "ledger",
  handler: Effect.fn(function* (payment) {
    const sql = yield* SqlClient.SqlClient
    yield* sql`INSERT INTO payment VALUES (${payment})`
  })
}).pipe(Consumer.orDeadLetter, Consumer.layer)

/** Nothing listens there. */
const nowhere = PgClient.layer({ port: 1 })

const topicOf = ({ topics }: Explain.Explanation): Explain.TopicExplanation => {
  assert.strictEqual(topics.length, 1)
  return topics[0]!
}

const synchronousCommit = ({ assumptions }: Explain.TopicExplanation) =>
  assumptions.find(({ holds }) => holds.startsWith("synchronous_commit"))

describe("explaining an app on PostgreSQL", () => {
  it.effect("needs no server", () =>
    Effect.gen(function* () {
      const app = Ledger.pipe(Layer.provide(SuretyPg.layer), Layer.provide(nowhere))
      const { declared, derived, parts, transport, weakestLink } = topicOf(yield* Surety.check(app))
      assert.deepStrictEqual([declared, derived], ["exactly-once", "exactly-once"])
      assert.deepStrictEqual(
        parts.map(({ layer }) => layer),
        ["PgTransport.layer", "ExactlyOnce.layer", "PgInbox.layer", "PgOutbox.layer"]
      )
      assert.deepInclude(transport, { name: "postgresql", crossProcess: true, transactional: true })
      assert.deepStrictEqual(weakestLink, {
        link: "PgTransport.layer",
        allows: "loss",
        when: "unless a failover goes only to a standby that has every acknowledged commit",
        assumed: true,
        raisedBy: "synchronous replication (synchronous_standby_names)"
      })
    })
  )

  it.live("opens no connection, not even in the background", () =>
    Effect.gen(function* () {
      let connections = 0
      const server = createServer((socket) => {
        connections++
        socket.end()
      }).listen(0, "127.0.0.1")
      yield* Effect.promise(() => once(server, "listening"))
      const { port } = server.address() as AddressInfo
      yield* Effect.addFinalizer(() => Effect.sync(() => server.close()))

      // Once the app is built: what it has begun by then is seen before this one.
      const knock = Effect.promise(() => once(connect(port, "127.0.0.1").resume(), "close"))
      const client = PgClient.layer({ host: "127.0.0.1", port, username: "surety" })
      const app = Layer.mergeAll(Ledger, Layer.effectDiscard(Producer.publish(topic("exactly-once"), "a"))).pipe(
        Layer.provide(SuretyPg.layer),
        Layer.provide(client),
        Layer.tap(() => Effect.andThen(knock, knock))
      )
      topicOf(yield* Surety.explain(app))
      assert.strictEqual(connections, 2)

      // What connects is seen.
      yield* Effect.flip(Effect.scoped(Layer.build(PgSchema.layer.pipe(Layer.provide(client)))))
      assert.isAbove(connections, 2)
    }).pipe(Effect.scoped)
  )

  it.effect("knows what the client's options say of synchronous_commit", () =>
    Effect.gen(function* () {
      type Config = Parameters<typeof PgClient.layer>[0]
      const client = (config: Config) => Layer.provide(PgClient.layer({ port: 1, ...config }))
      const explained = (config: Config) =>
        Effect.map(
          Surety.explain(
            reading(topic("at-least-once")).pipe(
              Layer.provide(AtLeastOnce.layer),
              Layer.provide(PgTransport.layer),
              Layer.provide(PgSchema.layer),
              client(config)
            )
          ),
          topicOf
        )
      const known = (config: Config) => Effect.map(explained(config), (topic) => synchronousCommit(topic)?.known)
      assert.strictEqual(yield* known({}), "not checked")
      assert.strictEqual(yield* known({ startupParameters: { synchronous_commit: "on" } }), "configured")
      assert.strictEqual(yield* known({ startupOptions: "-c synchronous_commit=local" }), "configured")
      const url = (setting: string) =>
        Redacted.make(
          `postgres://localhost:1/postgres?options=${encodeURIComponent(`-c synchronous_commit=${setting}`)}`
        )
      assert.strictEqual(yield* known({ url: url("remote_apply") }), "configured")

      for (const config of [
        { startupParameters: { synchronous_commit: "off" } },
        { startupOptions: "-c synchronous_commit=OFF -c geqo=on" },
        { startupOptions: "--synchronous-commit=off" },
        { url: url("off") }
      ]) {
        const { derived, weakestLink } = yield* explained(config)
        assert.strictEqual(derived, "best-effort")
        assert.deepInclude(weakestLink, {
          link: "PgTransport.layer",
          allows: "loss",
          assumed: false,
          raisedBy: "synchronous_commit = on"
        })
        // As it is when the app starts.
        const error = yield* Effect.flip(Surety.explain(Ledger.pipe(Layer.provide(SuretyPg.layer), client(config))))
        assert.instanceOf(error, CompositionError)
      }
    })
  )

  it.effect("says of exactly-once that it is checked when the app starts", () =>
    Effect.gen(function* () {
      const parts = Layer.mergeAll(PgTransport.layer, PgInbox.layer, PgOutbox.layer).pipe(Layer.provide(PgSchema.layer))
      const app = Ledger.pipe(
        Layer.provide(ExactlyOnce.layer),
        Layer.provide(AtLeastOnce.layer),
        Layer.provide(parts),
        Layer.provide(nowhere)
      )
      assert.deepInclude(synchronousCommit(topicOf(yield* Surety.explain(app))), {
        link: "PgInbox.layer",
        known: "checked at start"
      })
    })
  )

  it.effect("tells databases apart by their channels", () =>
    Effect.gen(function* () {
      class Audit extends Channel.make("Audit") {}
      const app = Layer.mergeAll(
        Ledger.pipe(Layer.provide(SuretyPg.layer), Layer.provide(nowhere)),
        reading(topic("exactly-once", Audit)).pipe(
          Layer.provide(SuretyPg.layer.pipe(Channel.on(Audit))),
          Layer.provide(PgClient.layer({ port: 1, startupParameters: { synchronous_commit: "on" } }))
        )
      )
      const { topics } = yield* Surety.check(app, { payments: "exactly-once", "payments@Audit": "exactly-once" })
      assert.deepStrictEqual(
        topics.map(({ channel, groups }) => [channel, groups.length]),
        [
          [null, 1],
          ["Audit", 1]
        ]
      )
    })
  )

  it.effect("fails for options that the app cannot start with", () =>
    Effect.gen(function* () {
      const app = Ledger.pipe(Layer.provide(SuretyPg.layerWith({ schema: "pg_own" })), Layer.provide(nowhere))
      assert.deepInclude(yield* Effect.flip(Surety.explain(app)), { reason: "InvalidName" })
    })
  )
})

it.layer(TestPostgres.layer, { excludeTestServices: true })("an app that runs", (it) => {
  it.effect("is explained by what its layers have read", () =>
    Effect.gen(function* () {
      const explanation = yield* Surety.explain(Ledger)
      assert.deepInclude(synchronousCommit(topicOf(explanation)), { link: "PgInbox.layer", known: "read" })
    }).pipe(Effect.provide(SuretyPg.layer.pipe(Layer.provideMerge(TestPostgres.layerClient))))
  )
})
