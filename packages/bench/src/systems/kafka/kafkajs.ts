/** kafkajs: no transactions in the table, since it does not check the group's generation in them (KIP-447). */
import { Effect } from "effect"
import { Kafka, logLevel, Partitioners } from "kafkajs"
import * as Message from "../../message.ts"
import { inParallel } from "../../promises.ts"
import type { Database, Opened, System, Watch } from "../../system.ts"
import { idHeader, keyOf, makeTopics, partitions, valueOf } from "./topics.ts"

const open = Effect.fnUntraced(function* ({ kafka }: Database) {
  const topics = yield* makeTopics(kafka!, "kafkajs")
  const client = new Kafka({ clientId: "bench", brokers: [kafka!], logLevel: logLevel.NOTHING })
  /** One for each run: it asks for every topic that it has ever sent to, and fails where one is gone. */
  const producing = Effect.acquireRelease(
    Effect.tryPromise(async () => {
      const made = client.producer({
        idempotent: true,
        // Otherwise its sequence numbers get out of order.
        maxInFlightRequests: 1,
        createPartitioner: Partitioners.DefaultPartitioner
      })
      await made.connect()
      return made
    }),
    (made) => Effect.promise(() => made.disconnect())
  )
  return {
    tables: [],
    kafkaProduce: {
      settings: "idempotent, acks -1, 8 times 1,000 at once, one request in flight",
      begin: Effect.zipWith(topics.create, producing, (topic, producer) => ({
        publish: (messages) =>
          Effect.tryPromise(() =>
            inParallel(8, Message.chunksOf(messages, 1000), (chunk) =>
              producer.send({
                topic,
                acks: -1,
                messages: chunk.map((message) => ({
                  key: keyOf(message),
                  value: valueOf(message),
                  headers: { [idHeader]: Message.idOf(message) }
                }))
              })
            )
          ),
        stored: topics.stored(topic)
      }))
    },
    kafkaConsume: {
      settings: `${partitions} partitions, eachBatch, a commit behind each batch`,
      begin: Effect.gen(function* () {
        const topic = yield* topics.create
        const group = `group-${topic}`
        return {
          ...(yield* topics.backlog(topic, group)),
          consume: (watch: Watch) =>
            Effect.acquireRelease(
              Effect.tryPromise(async () => {
                const consumer = client.consumer({ groupId: group })
                await consumer.connect()
                await consumer.subscribe({ topic, fromBeginning: true })
                await consumer.run({
                  autoCommit: false,
                  partitionsConsumedConcurrently: partitions,
                  eachBatch: async ({ batch }) => {
                    watch.begins()
                    for (const { value } of batch.messages) watch.handled(JSON.parse(`${value}`))
                    const offset = String(BigInt(batch.lastOffset()) + 1n)
                    await consumer.commitOffsets([{ topic, partition: batch.partition, offset }])
                  }
                })
                return consumer
              }),
              (consumer) => Effect.promise(() => consumer.disconnect())
            )
        }
      })
    }
  } satisfies Opened
})

export const kafkajs: System = { name: "kafkajs", role: "peer", on: "kafka", open }
