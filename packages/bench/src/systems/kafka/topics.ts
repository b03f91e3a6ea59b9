/**
 * Topics of a run, with the bare client: all systems have the same records to
 * consume, and what they store, and how far they have come, is looked up in the
 * same way.
 */
import Client from "@confluentinc/kafka-javascript"
import { Effect } from "effect"
import * as Message from "../../message.ts"

export const partitions = 4

/** Of every producer, as far as it has them. */
export const producing = {
  acks: -1,
  "enable.idempotence": true,
  "linger.ms": 5,
  "batch.size": 1_000_000,
  "compression.type": "none",
  partitioner: "murmur2_random",
  dr_cb: true
} as const

type Callback<A> = (error: Client.LibrdKafkaError | null | undefined, value?: A) => void

/** A function of the bare client that calls back. */
export const called = <A = void>(begin: (callback: Callback<A>) => unknown): Promise<A> =>
  new Promise((resolve, reject) =>
    begin((error, value) => (error === null || error === undefined ? resolve(value as A) : reject(error)))
  )

/** A client that is connected, until the scope closes. */
export const connected = <C extends Client.Client<any>>(make: () => C) =>
  Effect.acquireRelease(
    Effect.tryPromise(async () => {
      const client = make()
      client.on("event.error" as never, (() => {}) as never)
      await called((callback) => client.connect({ timeout: 30_000 }, callback as never))
      return client
    }),
    (client) => Effect.promise(() => called((callback) => client.disconnect(callback as never)))
  )

/** Sends records, and resolves once they are acknowledged. */
export type Send = (topic: string, messages: ReadonlyArray<Message.Message>) => Promise<void>

export const keyOf = ({ account }: Message.Message): Buffer => Buffer.from(String(account))
export const valueOf = (message: Message.Message): Buffer => Buffer.from(JSON.stringify(message))
/** The header by which ours tells messages apart; the others write the same records. */
export const idHeader = "surety-id"
export const headersOf = (message: Message.Message) => [{ [idHeader]: Buffer.from(Message.idOf(message)) }]

/** Hands a record to the client's queue, once there is room. */
export const produce = async (producer: Client.Producer, topic: string, message: Message.Message, opaque?: object) => {
  while (true) {
    try {
      producer.produce(topic, null, valueOf(message), keyOf(message), Date.now(), opaque, headersOf(message))
      return
    } catch (error) {
      if ((error as Client.LibrdKafkaError).code !== Client.CODES.ERRORS.ERR__QUEUE_FULL) throw error
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
}

export const makeSend = (servers: string) =>
  Effect.map(
    connected(() => new Client.Producer({ "bootstrap.servers": servers, ...producing } as never)),
    (producer): Send => {
      producer.setPollInBackground(true)
      producer.on("delivery-report", (error, { opaque }) => opaque(error))
      return async (topic, messages) => {
        let open = messages.length
        let report: (error: unknown) => void = () => {}
        const reported = new Promise<void>((resolve, reject) => {
          report = (error) => (error ? reject(error) : --open === 0 && resolve())
        })
        for (const message of messages) await produce(producer, topic, message, report)
        await reported
      }
    }
  )

export const makeTopics = Effect.fnUntraced(function* (servers: string, system: string) {
  const admin = Client.AdminClient.create({ "bootstrap.servers": servers } as never)
  yield* Effect.addFinalizer(() => Effect.sync(() => admin.disconnect()))
  const send = yield* makeSend(servers)
  const readerOf = (group: string) =>
    connected(
      () =>
        new Client.KafkaConsumer(
          { "bootstrap.servers": servers, "group.id": group, "enable.auto.commit": false } as never,
          {}
        )
    )
  const looking = yield* readerOf(`${system}-looking`)
  looking.setDefaultConsumeTimeout(200)
  const all = (topic: string) => Array.from({ length: partitions }, (_, partition) => ({ topic, partition }))
  let topics = 0
  return {
    /** A new topic, which is gone with the scope. */
    create: Effect.acquireRelease(
      Effect.tryPromise(async () => {
        const topic = `${system}-${process.pid}-${++topics}`
        await called((callback) =>
          admin.createTopic({ topic, num_partitions: partitions, replication_factor: 1 }, callback as never)
        )
        return topic
      }),
      (topic) => Effect.promise(() => called((callback) => admin.deleteTopic(topic, callback as never)))
    ),
    /** How many messages a topic holds, and how many different ones. */
    stored: (topic: string) =>
      Effect.tryPromise(async () => {
        const seen = new Set<number>()
        let total = 0
        looking.assign(all(topic).map((each) => ({ ...each, offset: 0 })))
        for (let idle = 0; idle < 5; ) {
          const messages = await called<Array<Client.Message>>((callback) => looking.consume(10_000, callback as never))
          idle = messages.length === 0 ? idle + 1 : 0
          total += messages.length
          for (const { value } of messages) seen.add((JSON.parse(`${value}`) as Message.Message).seq)
        }
        looking.unassign()
        return { total, distinct: seen.size }
      }),
    /** A backlog to consume, and how many of its records a group has not settled. */
    backlog: Effect.fnUntraced(function* (topic: string, group: string) {
      const reader = yield* readerOf(group)
      let count = 0
      return {
        fill: (messages: ReadonlyArray<Message.Message>) =>
          Effect.tryPromise(async () => {
            count = messages.length
            for (const chunk of Message.chunksOf(messages, 10_000)) await send(topic, chunk)
          }),
        unsettled: Effect.tryPromise(async () => {
          const committed = await called<Array<{ readonly offset?: number }>>((callback) =>
            reader.committed(all(topic), 10_000, callback as never)
          )
          return committed.reduce((left, { offset }) => left - (offset === undefined ? 0 : Math.max(0, offset)), count)
        })
      }
    })
  }
})
