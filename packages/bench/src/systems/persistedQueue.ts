/**
 * Effect's own PersistedQueue on its SQL store. It has no row for exactly-once:
 * where elements are taken inside a transaction, a worker that was frozen and
 * its successor both commit.
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
  const newQueue = Effect.suspend(() => {
    const name = `bench-${++queues}`
    return Effect.map(PersistedQueue.make({ name, schema: Message.Message }), (queue) => ({ name, queue }))
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

  const takeOn = (fibers: number, queue: Queue, watch: Watch) => {
    const take = queue.take((message) =>
      Effect.sync(() => {
        watch.begins()
        watch.handled(message)
      })
    )
    return Effect.forkScoped(
      Effect.all(
        Array.from({ length: fibers }, () => Effect.forever(take)),
        { concurrency: "unbounded", discard: true }
      )
    )
  }

  const consuming = (fibers: number): Part<Consuming> => ({
    settings: `${fibers} takers, maxConnections ${connections}`,
    begin: Effect.map(newQueue, ({ name, queue }) => ({
      fill: (messages) =>
        Effect.forEach(messages, (message) => offer(queue, message), { concurrency: 64, discard: true }),
      consume: (watch) => takeOn(fibers, queue, watch),
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
        consume: (watch) => takeOn(connections, queue, watch)
      }))
    },
    consume: consuming(takers)
  } satisfies Opened
})

export const persistedQueue: System = { name: "persisted-queue", role: "peer", open }
