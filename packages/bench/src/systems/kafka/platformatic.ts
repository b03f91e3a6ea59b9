/** `@platformatic/kafka`: no transactions in the table, since it drops offsets that are committed in them at the same time. */
import { Consumer, MessagesStreamFallbackModes, MessagesStreamModes, ProduceAcks, Producer } from "@platformatic/kafka"
import { Effect } from "effect"
import * as Message from "../../message.ts"
import { inParallel } from "../../promises.ts"
import type { Database, Opened, System, Watch } from "../../system.ts"
import { idHeader, keyOf, makeTopics, partitions, valueOf } from "./topics.ts"

const open = Effect.fnUntraced(function* ({ kafka }: Database) {
  const topics = yield* makeTopics(kafka!, "platformatic")
  const producer = yield* Effect.acquireRelease(
    Effect.sync(() => new Producer({ clientId: "bench", bootstrapBrokers: [kafka!], idempotent: true })),
    (made) => Effect.promise(() => made.close())
  )
  return {
    tables: [],
    kafkaProduce: {
      settings: "idempotent, acks all, 8 times 1,000 at once",
      begin: Effect.map(topics.create, (topic) => ({
        publish: (messages) =>
          Effect.tryPromise(() =>
            inParallel(8, Message.chunksOf(messages, 1000), (chunk) =>
              producer.send({
                acks: ProduceAcks.ALL,
                messages: chunk.map((message) => ({
                  topic,
                  key: keyOf(message),
                  value: valueOf(message),
                  headers: new Map([[Buffer.from(idHeader), Buffer.from(Message.idOf(message))]])
                }))
              })
            )
          ),
        stored: topics.stored(topic)
      }))
    },
    kafkaConsume: {
      settings: `${partitions} partitions, a stream, commits every 20 ms`,
      begin: Effect.gen(function* () {
        const topic = yield* topics.create
        const groupId = `group-${topic}`
        return {
          ...(yield* topics.backlog(topic, groupId)),
          consume: (watch: Watch) =>
            Effect.acquireRelease(
              Effect.tryPromise(async () => {
                const consumer = new Consumer({ clientId: "bench", groupId, bootstrapBrokers: [kafka!] })
                const stream = await consumer.consume({
                  autocommit: false,
                  topics: [topic],
                  mode: MessagesStreamModes.COMMITTED,
                  fallbackMode: MessagesStreamFallbackModes.EARLIEST
                })
                const pending = new Map<number, () => unknown>()
                stream.on("data", ({ commit, partition, value }) => {
                  watch.begins()
                  watch.handled(JSON.parse(`${value}`))
                  pending.set(partition, commit)
                })
                const committing = setInterval(() => {
                  for (const commit of pending.values()) commit()
                  pending.clear()
                }, 20)
                stream.on("close", () => clearInterval(committing))
                return { consumer, stream }
              }),
              ({ consumer, stream }) =>
                Effect.promise(async () => {
                  await stream.close()
                  await consumer.close(true)
                })
            )
        }
      })
    }
  } satisfies Opened
})

export const platformatic: System = { name: "platformatic", role: "peer", on: "kafka", open }
