/**
 * The client that ours is made of, used directly, with the same settings: what it
 * costs to move the records, without lanes, retries, dead letters, epochs, or
 * care for what is revoked in the middle.
 */
import Client from "@confluentinc/kafka-javascript"
import { Effect } from "effect"
import * as Message from "../../message.ts"
import { inParallel } from "../../promises.ts"
import type { Database, Opened, System, Watch } from "../../system.ts"
import { called, connected, makeSend, makeTopics, partitions, produce, producing } from "./topics.ts"

const consumerOf = (servers: string, group: string) =>
  connected(
    () =>
      new Client.KafkaConsumer(
        {
          "bootstrap.servers": servers,
          "group.id": group,
          "partition.assignment.strategy": "cooperative-sticky",
          "isolation.level": "read_committed",
          "enable.auto.commit": false,
          "enable.auto.offset.store": false,
          "queued.min.messages": 10_000,
          "fetch.queue.backoff.ms": 5,
          "queued.max.messages.kbytes": 16_384
        } as never,
        { "auto.offset.reset": "earliest" }
      )
  )

/** Batches of records, one after the other, until the scope closes. */
const loop = (
  consumer: Client.KafkaConsumer,
  topic: string,
  handle: (messages: ReadonlyArray<Client.Message>) => Promise<void>
) =>
  Effect.gen(function* () {
    let stopped = false
    const running = async () => {
      while (!stopped) {
        const messages = await called<Array<Client.Message>>((callback) => consumer.consume(1_000, callback as never))
        if (messages.length > 0) await handle(messages)
      }
    }
    consumer.setDefaultConsumeTimeout(20)
    consumer.subscribe([topic])
    const ended = running()
    yield* Effect.addFinalizer(() =>
      Effect.promise(() => {
        stopped = true
        return ended
      })
    )
  })

/** Behind the last record of each partition. */
const offsetsOf = (topic: string, messages: ReadonlyArray<Client.Message>) =>
  Array.from(new Map(messages.map(({ offset, partition }) => [partition, offset])), ([partition, offset]) => ({
    topic,
    partition,
    offset: offset + 1
  }))

const parse = ({ value }: Client.Message): Message.Message => JSON.parse(`${value}`)

const open = Effect.fnUntraced(function* ({ kafka }: Database) {
  const servers = kafka!
  const topics = yield* makeTopics(servers, "bare")
  const send = yield* makeSend(servers)
  const groupOf = (topic: string) => `group-${topic}`
  return {
    tables: [],
    kafkaProduce: {
      settings: "produce, delivery reports, 8 times 1,000 at once",
      begin: Effect.map(topics.create, (topic) => ({
        publish: (messages) =>
          Effect.tryPromise(() => inParallel(8, Message.chunksOf(messages, 1000), (chunk) => send(topic, chunk))),
        stored: topics.stored(topic)
      }))
    },
    kafkaConsume: {
      settings: `${partitions} partitions, a commit behind each 1,000`,
      begin: Effect.gen(function* () {
        const topic = yield* topics.create
        return {
          ...(yield* topics.backlog(topic, groupOf(topic))),
          consume: (watch: Watch) =>
            Effect.flatMap(consumerOf(servers, groupOf(topic)), (consumer) =>
              loop(consumer, topic, async (messages) => {
                watch.begins()
                for (const message of messages) watch.handled(parse(message))
                consumer.commit(offsetsOf(topic, messages))
              })
            )
        }
      })
    },
    kafkaCopy: {
      settings: `${partitions} partitions, transactions of up to 1,000`,
      begin: Effect.gen(function* () {
        const topic = yield* topics.create
        const to = yield* topics.create
        return {
          ...(yield* topics.backlog(topic, groupOf(topic))),
          copied: topics.stored(to),
          consume: (watch: Watch) =>
            Effect.gen(function* () {
              const producer = yield* connected(
                () =>
                  new Client.Producer({
                    "bootstrap.servers": servers,
                    ...producing,
                    "transactional.id": `bare-${to}`
                  } as never)
              )
              producer.setPollInBackground(true)
              yield* Effect.tryPromise(() => called((callback) => producer.initTransactions(30_000, callback)))
              const consumer = yield* consumerOf(servers, groupOf(topic))
              yield* loop(consumer, topic, async (messages) => {
                watch.begins()
                await called((callback) => producer.beginTransaction(callback))
                const parsed = messages.map(parse)
                for (const message of parsed) await produce(producer, to, message)
                await called((callback) =>
                  producer.sendOffsetsToTransaction(offsetsOf(topic, messages), consumer, 30_000, callback)
                )
                await called((callback) => producer.commitTransaction(30_000, callback))
                for (const message of parsed) watch.handled(message)
              })
            })
        }
      })
    }
  } satisfies Opened
})

export const bare: System = { name: "bare client", role: "limit", on: "kafka", open }
