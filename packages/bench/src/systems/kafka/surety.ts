/** Ours on Kafka, as an app uses it. */
import { AtLeastOnce, Consumer, type Guarantee, KafkaExactlyOnce, Producer, Topic } from "@surety/core"
import { KafkaClient, KafkaTransactions, KafkaTransport } from "@surety/kafka"
import { Effect, Layer } from "effect"
import * as Message from "../../message.ts"
import type { Database, Opened, System, Watch } from "../../system.ts"
import { makeTopics, partitions } from "./topics.ts"

const topicOf = <const G extends Guarantee.Name>(name: string, guarantee: G) =>
  Topic.make(name, {
    schema: Message.Message,
    guarantee,
    id: Message.idOf,
    key: ({ account }) => String(account),
    partitions
  })

const open = Effect.fnUntraced(function* ({ kafka }: Database) {
  const servers = kafka!
  const topics = yield* makeTopics(servers, "surety")
  const context = yield* Layer.build(
    KafkaExactlyOnce.layer.pipe(
      Layer.provideMerge(AtLeastOnce.layer),
      Layer.provide(KafkaTransactions.layer({ transactionalId: `surety-bench-${process.pid}` })),
      Layer.provideMerge(KafkaTransport.layer({ acks: "all" })),
      Layer.provide(KafkaClient.layer({ bootstrapServers: servers, groupId: (group, topic) => `${group}-${topic}` }))
    )
  )
  const group = "bench"
  const started = <R>(consumer: Consumer.Consumer<Message.Message, never, R>) =>
    Effect.provide(Consumer.start(consumer), context)
  return {
    tables: [],
    kafkaProduce: {
      settings: "Producer.publishAll, 8 times 1,000 at once",
      begin: Effect.map(topics.create, (name) => {
        const topic = topicOf(name, "at-least-once")
        return {
          publish: (messages) =>
            Effect.forEach(Message.chunksOf(messages, 1000), (chunk) => Producer.publishAll(topic, chunk), {
              concurrency: 8,
              discard: true
            }).pipe(Effect.provide(context)),
          stored: topics.stored(name)
        }
      })
    },
    kafkaConsume: {
      settings: `${partitions} partitions, at-least-once, concurrency 8, prefetch 2,000`,
      begin: Effect.gen(function* () {
        const name = yield* topics.create
        return {
          ...(yield* topics.backlog(name, `${group}-${name}`)),
          consume: (watch: Watch) =>
            started(
              Consumer.make(topicOf(name, "at-least-once"), {
                group,
                concurrency: 8,
                prefetch: 2000,
                handler: (message) =>
                  Effect.sync(() => {
                    watch.begins()
                    watch.handled(message)
                  })
              })
            )
        }
      })
    },
    kafkaCopy: {
      settings: `${partitions} partitions, exactly-once-kafka, makeBatch of up to 1,000`,
      begin: Effect.gen(function* () {
        const name = yield* topics.create
        const to = yield* topics.create
        const Copies = topicOf(to, "exactly-once-kafka")
        return {
          ...(yield* topics.backlog(name, `${group}-${name}`)),
          copied: topics.stored(to),
          consume: (watch: Watch) =>
            started(
              Consumer.makeBatch(topicOf(name, "exactly-once-kafka"), {
                group,
                maxSize: 1000,
                prefetch: 2000,
                concurrency: partitions,
                handler: (messages) => {
                  watch.begins()
                  return Effect.map(
                    Producer.publishAll(
                      Copies,
                      messages.map(({ payload }) => payload)
                    ),
                    () => {
                      for (const { payload } of messages) watch.handled(payload)
                    }
                  )
                }
              }).pipe(Consumer.orDeadLetter)
            )
        }
      })
    }
  } satisfies Opened
})

export const suretyKafka: System = { name: "surety", role: "ours", on: "kafka", open }
