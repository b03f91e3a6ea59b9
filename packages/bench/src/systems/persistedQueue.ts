/**
 * Effect's own PersistedQueue on its SQL store. Taking an element inside a
 * transaction is exactly-once only while no worker is frozen for longer than
 * its lock lasts.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import { Context, Effect, Layer } from "effect"
import { PersistedQueue } from "effect/persistence"
import * as Business from "../business.ts"
import * as Message from "../message.ts"
import type { Consuming, Database, Opened, Part, Publishing, System, Watch } from "../system.ts"

const connections = 16
const takers = 500

type Queue = PersistedQueue.PersistedQueue<Message.Message>

const open = Effect.fnUntraced(function* ({ sql, url }: Database) {
  const context = yield* Layer.build(
    PersistedQueue.layer.pipe(
      Layer.provide(PersistedQueue.layerStoreSql({ pollInterval: "10 millis" })),
      Layer.provideMerge(PgClient.layer({ url, maxConnections: connections }))
    )
  )
  const client = Context.get(context, PgClient.PgClient)

  let queues = 0
  /** Taken from once outside of a transaction: its poller would inherit that of the first taker. */
  const newQueue = Effect.gen(function* () {
    const name = `bench-${++queues}`
    const queue = yield* PersistedQueue.make({ name, schema: Message.Message })
    yield* queue.offer({ seq: 0, account: 0, pad: "" })
    yield* queue.take(() => Effect.void)
    yield* client`DELETE FROM effect_queue WHERE queue_name = ${name}`
    return { name, queue }
  }).pipe(Effect.provide(context))

  const offer = (queue: Queue, message: Message.Message) => queue.offer(message, { id: Message.idOf(message) })

  const publishing = (
    settings: string,
    publish: (queue: Queue, messages: ReadonlyArray<Message.Message>) => Effect.Effect<void, unknown>
  ): Part<Publishing> => ({
    settings,
    begin: Effect.map(newQueue, ({ name, queue }) => ({
      publish: (messages) => publish(queue, messages),
      stored: Effect.map(
        sql<{ total: number; distinct: number }>`SELECT count(*)::integer AS total,
          count(DISTINCT id)::integer AS distinct FROM effect_queue WHERE queue_name = ${name}`,
        ([row]) => row!
      )
    }))
  })

  type Take = (queue: Queue, watch: Watch) => Effect.Effect<void, unknown>

  const takeOn = (fibers: number, take: Take) => (queue: Queue, watch: Watch) =>
    Effect.forkScoped(
      Effect.all(
        Array.from({ length: fibers }, () => Effect.forever(take(queue, watch))),
        { concurrency: "unbounded", discard: true }
      )
    )

  const count: Take = (queue, watch) =>
    queue.take((message) =>
      Effect.sync(() => {
        watch.begins()
        watch.handled(message)
      })
    )

  const consuming = (settings: string, fibers: number, take: Take): Part<Consuming> => ({
    settings,
    begin: Effect.map(newQueue, ({ name, queue }) => ({
      fill: (messages) =>
        Effect.forEach(messages, (message) => offer(queue, message), { concurrency: 64, discard: true }),
      consume: (watch) => takeOn(fibers, take)(queue, watch),
      unsettled: Effect.map(
        sql<{
          n: number
        }>`SELECT count(*)::integer AS n FROM effect_queue WHERE queue_name = ${name} AND state <> 'completed'`,
        ([row]) => row!.n
      )
    }))
  })

  return {
    tables: ["effect_queue"],
    publishEach: publishing(`offer, maxConnections ${connections}`, (queue, messages) =>
      Effect.forEach(messages, (message) => offer(queue, message), { concurrency: 64, discard: true })
    ),
    publishInTransaction: publishing(`offer in sql.withTransaction, maxConnections ${connections}`, (queue, messages) =>
      Effect.forEach(
        messages,
        (message) =>
          client.withTransaction(
            Effect.andThen(client.unsafe(Business.purchase, [message.seq, message.account]), offer(queue, message))
          ),
        { concurrency: connections, discard: true }
      )
    ),
    deliver: {
      settings: `offer, ${connections} takers, pollInterval 10 millis, maxConnections ${connections}`,
      begin: Effect.map(newQueue, ({ queue }) => ({
        publish: (message) => offer(queue, message),
        consume: (watch) => takeOn(connections, count)(queue, watch)
      }))
    },
    consume: consuming(`${takers} takers, maxConnections ${connections}`, takers, count),
    exactlyOnceEach: consuming(
      `take in sql.withTransaction, ${connections - 2} takers, maxConnections ${connections}`,
      connections - 2,
      (queue, watch) =>
        client.withTransaction(
          queue.take((message) => {
            watch.begins()
            return Effect.map(client.unsafe(Business.applyOne, [message.account, message.seq]), () =>
              watch.handled(message)
            )
          })
        )
    )
  } satisfies Opened
})

export const persistedQueue: System = { name: "persisted-queue", role: "peer", open }
