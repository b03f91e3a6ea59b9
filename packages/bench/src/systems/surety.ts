/** Ours, as an app uses it. */
import * as PgClient from "@effect/sql-pg/PgClient"
import { Consumer, type Guarantee, Producer, Topic, Transport } from "@surety/core"
import { PgSchema, SuretyPg } from "@surety/pg"
import { Context, Effect, Layer, Redacted } from "effect"
import * as Business from "../business.ts"
import * as Message from "../message.ts"
import { spawnWorker } from "../processes/spawn.ts"
import type { Consuming, Database, Opened, Part, Processes, Publishing, System, Watch } from "../system.ts"

const partitions = 8
const prefetch = 2000
const batchSize = 500
const connections = 16
/** Of worker processes, so that a takeover need not be waited for long. */
const leaseMillis = 2000

export const topicOf = <G extends Guarantee.Name>(name: string, guarantee: G) =>
  Topic.make(name, {
    schema: Message.Message,
    guarantee,
    id: Message.idOf,
    key: ({ account }) => String(account),
    partitions
  })

const group = "bench"

/** Exactly-once, with one awaited UPDATE per message. */
export const applyEach = (
  client: PgClient.PgClient,
  topic: Topic.Topic<typeof Message.Message, "exactly-once">,
  watch: Watch
) =>
  Consumer.make(topic, {
    group,
    batchSize,
    prefetch,
    concurrency: partitions,
    handler: (message, { partition }) => {
      watch.begins()
      return Effect.map(client.unsafe(Business.applyOne, [message.account, message.seq]), () =>
        watch.handled(message, partition)
      )
    }
  }).pipe(Consumer.orDeadLetter)

const open = Effect.fnUntraced(function* ({ sql, url }: Database) {
  const context = yield* Layer.build(
    SuretyPg.layer.pipe(Layer.provideMerge(PgClient.layer({ url, maxConnections: connections })))
  )
  const client = Context.get(context, PgClient.PgClient)
  const transport = Context.get(context, Transport.Transport)

  let topics = 0
  const newTopic = <G extends Guarantee.Name>(guarantee: G) =>
    Effect.gen(function* () {
      const topic = topicOf(`bench-${++topics}`, guarantee)
      yield* transport.declare(Topic.declaration(topic))
      return topic
    })

  const publishing = (
    publish: (
      topic: Topic.Topic<typeof Message.Message, "at-least-once">,
      messages: ReadonlyArray<Message.Message>
    ) => Effect.Effect<void, unknown, Context.Service.Identifier<typeof Guarantee.AtLeastOnce>>
  ) =>
    Effect.map(
      newTopic("at-least-once"),
      (topic): Publishing => ({
        publish: (messages) => Effect.provide(publish(topic, messages), context),
        stored: Effect.map(
          sql<{ total: number; distinct: number }>`
            SELECT count(*)::integer AS total, count(DISTINCT l.id)::integer AS distinct
            FROM surety.log l JOIN surety.topic t ON t.id = l.topic WHERE t.name = ${topic.name}`,
          ([row]) => row!
        )
      })
    )

  const consuming = <G extends "at-least-once" | "exactly-once">(
    guarantee: G,
    consumer: (
      topic: Topic.Topic<typeof Message.Message, G>,
      watch: Watch
    ) => Consumer.Consumer<Message.Message, never, any>
  ) =>
    Effect.map(
      newTopic(guarantee),
      (topic): Consuming => ({
        fill: (messages) =>
          Effect.forEach(
            Message.chunksOf(messages, 1000),
            (chunk) => Producer.publishAll(topic as Topic.Topic<typeof Message.Message, "at-least-once">, chunk),
            { discard: true }
          ).pipe(Effect.provide(context)),
        consume: (watch) => Effect.provide(Consumer.start(consumer(topic, watch)), context),
        unsettled: Effect.map(transport.progress(topic.name, group), (progress) =>
          progress.reduce((sum, { lag }) => sum + lag, 0)
        )
      })
    )

  const consumed = `${partitions} partitions, concurrency 8, prefetch ${prefetch}`
  const directly = (topic: Topic.Topic<typeof Message.Message, "at-least-once">, watch: Watch) =>
    Consumer.make(topic, {
      group,
      concurrency: 8,
      prefetch,
      handler: (message) =>
        Effect.sync(() => {
          watch.begins()
          watch.handled(message)
        })
    })
  const direct = consuming("at-least-once", directly)
  const transactional = `${partitions} partitions, one transaction for up to ${batchSize} messages, prefetch ${prefetch}`

  /** As a process would whose retention is as good as none. */
  const forget = Layer.build(
    PgSchema.layerWith({
      pollInterval: "100 millis",
      retention: { log: "1 millis", inbox: "1 millis", reclaim: true }
    }).pipe(Layer.provide(Layer.succeedContext(context)))
  )

  const processes: Part<Processes> = {
    settings: `applying each, ${transactional}, lease ${leaseMillis} ms`,
    begin: Effect.map(newTopic("exactly-once"), (topic) => ({
      leaseMillis,
      partitions,
      publish: (messages) => Effect.provide(Producer.publishAll(topic, messages), context),
      spawn: spawnWorker({
        DATABASE_URL: Redacted.value(url),
        BENCH_TOPIC: topic.name,
        BENCH_LEASE: String(leaseMillis)
      })
    }))
  }

  return {
    processes,
    forget,
    tables: ["surety.log", "surety.inbox", "surety.attempt"],
    publishEach: {
      settings: "Producer.publish",
      begin: publishing((topic, messages) =>
        Effect.forEach(messages, (message) => Producer.publish(topic, message), { concurrency: 64, discard: true })
      )
    },
    publishInTransaction: {
      settings: `sql.withTransaction, maxConnections ${connections}`,
      begin: publishing((topic, messages) =>
        Effect.forEach(
          messages,
          (message) =>
            client.withTransaction(
              Effect.andThen(
                client.unsafe(Business.purchase, [message.seq, message.account]),
                Producer.publish(topic, message)
              )
            ),
          { concurrency: connections, discard: true }
        )
      )
    },
    publishBatches: {
      settings: "Producer.publishAll",
      begin: publishing((topic, messages) =>
        Effect.forEach(Message.chunksOf(messages, 1000), (chunk) => Producer.publishAll(topic, chunk), {
          discard: true
        })
      )
    },
    deliver: {
      settings: `Producer.publish, ${consumed}`,
      begin: Effect.map(newTopic("at-least-once"), (topic) => ({
        publish: (message) => Effect.provide(Producer.publish(topic, message), context),
        consume: (watch) => Effect.provide(Consumer.start(directly(topic, watch)), context)
      }))
    },
    consume: { settings: consumed, begin: direct },
    consumeOrdered: { settings: consumed, begin: direct },
    exactlyOnceEach: {
      settings: transactional,
      begin: consuming("exactly-once", (topic, watch) => applyEach(client, topic, watch))
    },
    exactlyOnceBatch: {
      settings: transactional,
      begin: consuming("exactly-once", (topic, watch) =>
        Consumer.makeBatch(topic, {
          group,
          maxSize: batchSize,
          prefetch,
          concurrency: partitions,
          handler: (messages) => {
            watch.begins()
            const accounts = messages.map(({ payload }) => payload.account)
            const seqs = messages.map(({ payload }) => payload.seq)
            return Effect.map(client.unsafe(Business.applyBatch, [accounts, seqs]), () => {
              for (const { payload } of messages) watch.handled(payload)
            })
          }
        }).pipe(Consumer.orDeadLetter)
      )
    }
  } satisfies Opened
})

export const surety: System = { name: "surety", role: "ours", open }
