/**
 * The conformance suite's backend of two systems: what is published waits in the
 * outbox of one database, is relayed to a transport in another one, and is
 * consumed from there with progress, redelivery and inbox in the first.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import { AtLeastOnce, AtMostOnce, ExactlyOnce, Inbox, Transport } from "@surety/core"
import * as PgDeadLetters from "@surety/pg/PgDeadLetters"
import * as PgInbox from "@surety/pg/PgInbox"
import * as PgOutbox from "@surety/pg/PgOutbox"
import * as PgSchema from "@surety/pg/PgSchema"
import * as PgTransport from "@surety/pg/PgTransport"
import * as TestPostgres from "@surety/testing/TestPostgres"
import type * as TransportTest from "@surety/testing/TransportTest"
import { Context, Effect, Layer, type Redacted, Schedule, type Scope } from "effect"
import { applyWith, backend, Database, lease, proxied, store } from "./backend.ts"

/** The database of the other system. */
class Broker extends Context.Service<Broker, { readonly url: Redacted.Redacted }>()("Broker") {}

const layerBroker = Layer.effect(
  Broker,
  Effect.flatMap(TestPostgres.TestPostgres, ({ createDatabase }) => createDatabase())
)

const layerSchema = (url: Redacted.Redacted, applicationName: string) =>
  PgSchema.layerWith({ lease, pollInterval: "200 millis" }).pipe(
    Layer.provideMerge(PgClient.layer({ url, applicationName, maxConnections: 8 })),
    Layer.fresh
  )

/**
 * The outbox, of one shard, such that a group joins once what was published before
 * is sent, and the lag includes what waits: the suite looks at what was
 * published, and knows of no outbox.
 */
const relayed = Layer.effectContext(
  Effect.gen(function* () {
    const db = yield* PgSchema.PgSchema
    const target = yield* Transport.Transport
    const context = yield* Layer.build(PgOutbox.layerRelay({ shards: 1 }))
    const outbox = Context.get(context, Transport.Transport)
    /** How many records of a topic wait to be sent. */
    const waiting = (topic: string) =>
      db.control
        .unsafe<{ count: number }>(
          `SELECT count(*)::integer AS count FROM ${db.schema}.log l JOIN ${db.schema}.topic t ON t.id = l.topic
          JOIN ${db.schema}.consumer_group g ON g.topic = t.id
          JOIN ${db.schema}.cursor c ON c.consumer_group = g.id AND c.partition = l.partition
          WHERE t.name LIKE 'surety.outbox.%' AND l.log_offset > c.settled AND strpos(l.headers, $1) > 0`,
          // As in JSON within JSON.
          [`${topic}\\"`]
        )
        .withoutTransform.pipe(
          Effect.map(([row]) => row!.count),
          Effect.orElseSucceed(() => 0)
        )
    return Context.add(context, Transport.Transport, {
      ...outbox,
      publish: (topic, records) =>
        Effect.gen(function* () {
          if (yield* outbox.inTransaction) return yield* outbox.publish(topic, records)
          yield* target.declare(topic)
          // Another program publishes there itself.
          if (records.some(({ id }) => id === "")) return yield* target.publish(topic, records)
          yield* outbox.publish(topic, records)
        }),
      subscribe: (options) =>
        Effect.andThen(
          Effect.repeat(waiting(options.topic.name), {
            until: (count) => count === 0,
            schedule: Schedule.spaced("5 millis")
          }),
          outbox.subscribe(options)
        ),
      progress: (topic, group) =>
        Effect.gen(function* () {
          const unsent = yield* waiting(topic)
          const found = yield* outbox.progress(topic, group)
          return found.map((known) => ({ ...known, lag: known.lag + unsent }))
        })
    })
  })
)

const makeNode = Effect.fnUntraced(function* (
  name: string
): Effect.fn.Return<TransportTest.Node, unknown, Database | Broker | Scope.Scope> {
  const here = yield* proxied((yield* Database).url)
  const there = yield* proxied((yield* Broker).url)
  const proxies = [here.proxy, there.proxy]
  const schema = yield* Layer.build(layerSchema(here.url, name))
  const broker = PgTransport.layer.pipe(Layer.provide(layerSchema(there.url, `${name} at the broker`)))
  const parts = yield* Layer.build(
    Layer.mergeAll(
      ExactlyOnce.layer.pipe(
        Layer.provideMerge(AtLeastOnce.layer),
        Layer.provideMerge(Layer.mergeAll(relayed, PgInbox.layer, PgOutbox.layer)),
        Layer.provide(broker)
      ),
      PgDeadLetters.layer
    )
  ).pipe(Effect.provideContext(schema))
  // The other guarantees on the same footing: then all that the suite looks at is in the one database.
  const source = Context.get(parts, Transport.Transport)
  const adopted = Context.get(parts, Inbox.Inbox).adopt!(source)
  const transport: Transport.Transport["Service"] = {
    ...adopted.transport,
    // The lag is the source's, which is told a moment later how far the group has come.
    progress: (topic, group) =>
      Effect.gen(function* () {
        for (let tries = 0; ; tries++) {
          const there = yield* source.progress(topic, group)
          const here = yield* adopted.transport.progress(topic, group)
          const told = here.every(({ settled }, index) => there[index]!.settled >= settled)
          if (told || tries === 200) return here
          yield* Effect.sleep("5 millis")
        }
      })
  }
  const services = Context.merge(
    parts,
    Context.make(Transport.Transport, transport).pipe(Context.add(Inbox.Inbox, adopted.inbox))
  )
  const others = yield* Layer.build(Layer.fresh(Layer.merge(AtMostOnce.layer, AtLeastOnce.layer))).pipe(
    Effect.provideContext(services)
  )
  return {
    services: Context.merge(services, others),
    apply: applyWith(Context.get(schema, PgClient.PgClient)),
    disconnect: (how) =>
      Effect.sync(() => {
        for (const proxy of proxies) how === "lost" ? proxy.lose() : proxy.freeze()
      }),
    reconnect: Effect.sync(() => {
      for (const proxy of proxies) proxy.restore()
    })
  }
})

export const acrossBackend: TransportTest.Backend<Database | Broker> = {
  time: "real",
  lease,
  store: Layer.provide(Layer.merge(store, layerBroker), TestPostgres.layer),
  node: makeNode,
  effects: backend.effects
}
