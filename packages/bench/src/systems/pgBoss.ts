/** pg-boss 12, with its own pool and LISTEN/NOTIFY where it helps. */
import { Effect, Redacted } from "effect"
import type { ClientBase } from "pg"
import { type Db, type Job, PgBoss, type WorkOptions } from "pg-boss"
import * as Business from "../business.ts"
import * as Message from "../message.ts"
import { inParallel, makePool, transact } from "../promises.ts"
import type { Consuming, Database, Opened, Part, Publishing, System, Watch } from "../system.ts"

const connections = 16

/** Statements of pg-boss in a transaction of ours. */
const joined = (client: ClientBase): Db => ({ executeSql: (text, values) => client.query(text, values) })

const open = Effect.fnUntraced(function* ({ sql, url }: Database) {
  const connectionString = Redacted.value(url)
  const boss = yield* Effect.acquireRelease(
    Effect.tryPromise(async () => {
      const boss = new PgBoss({
        connectionString,
        max: connections,
        useListenNotify: true,
        supervise: false,
        schedule: false
      })
      boss.on("error", (error) => console.error(error))
      return boss.start()
    }),
    (boss) => Effect.promise(() => boss.stop({ graceful: false }))
  )
  const pool = yield* makePool(connectionString, connections)

  let queues = 0
  const newQueue = (options: Parameters<PgBoss["createQueue"]>[1]) =>
    Effect.acquireRelease(
      Effect.tryPromise(async () => {
        const name = `bench-${++queues}`
        await boss.createQueue(name, options)
        return name
      }),
      (name) => Effect.promise(() => boss.deleteQueue(name))
    )

  const publishing = (
    settings: string,
    publish: (queue: string, messages: ReadonlyArray<Message.Message>) => Promise<unknown>
  ): Part<Publishing> => ({
    settings,
    begin: Effect.map(newQueue({}), (queue) => ({
      publish: (messages) => Effect.tryPromise(() => publish(queue, messages)),
      stored: Effect.map(
        sql<{ total: number; distinct: number }>`SELECT count(*)::integer AS total,
          count(DISTINCT data->>'seq')::integer AS distinct FROM pgboss.job WHERE name = ${queue}`,
        ([row]) => row!
      )
    }))
  })

  const insert = async (queue: string, messages: ReadonlyArray<Message.Message>, byKey: boolean) => {
    for (const chunk of Message.chunksOf(messages, 1000)) {
      await boss.insert(
        queue,
        chunk.map((data) => (byKey ? { data, singletonKey: String(data.account) } : { data }))
      )
    }
  }

  const consuming = (
    settings: string,
    options: { readonly byKey?: boolean },
    work: (queue: string, watch: Watch) => Promise<string>
  ): Part<Consuming> => ({
    settings,
    begin: Effect.map(newQueue(options.byKey === true ? { policy: "key_strict_fifo" } : {}), (queue) => ({
      fill: (messages) => Effect.tryPromise(() => insert(queue, messages, options.byKey === true)),
      consume: (watch) =>
        Effect.acquireRelease(
          Effect.tryPromise(() => work(queue, watch)),
          () => Effect.promise(() => boss.offWork(queue))
        ),
      unsettled: Effect.map(
        sql<{
          n: number
        }>`SELECT count(*)::integer AS n FROM pgboss.job WHERE name = ${queue} AND state <> 'completed'`,
        ([row]) => row!.n
      )
    }))
  })

  /** Fetches again at once for as long as batches come full. */
  const burst = { pollingIntervalSeconds: 0.5, burstWhenBatchFull: true } satisfies WorkOptions
  const shown = ({ batchSize, localConcurrency }: WorkOptions) =>
    `batchSize ${batchSize}, localConcurrency ${localConcurrency}, burstWhenBatchFull`

  const count = (watch: Watch) => async (jobs: ReadonlyArray<Job<Message.Message>>) => {
    watch.begins()
    for (const { data } of jobs) watch.handled(data)
  }
  const nothing = (batchSize: number, localConcurrency: number, byKey: boolean) => {
    const options = { ...burst, batchSize, localConcurrency }
    return consuming(`${byKey ? "policy key_strict_fifo, " : ""}${shown(options)}`, { byKey }, (queue, watch) =>
      boss.work<Message.Message>(queue, options, count(watch))
    )
  }

  const transactional = (
    batchSize: number,
    localConcurrency: number,
    handle: (jobs: ReadonlyArray<Job<Message.Message>>, tx: Db) => Promise<unknown>
  ) => {
    const options = { ...burst, batchSize, localConcurrency, transactional: true } as const
    return consuming(`transactional: true, ${shown(options)}`, {}, (queue, watch) =>
      boss.work<Message.Message, void, typeof options>(queue, options, async (jobs, tx) => {
        watch.begins()
        await handle(jobs, tx)
        for (const { data } of jobs) watch.handled(data)
      })
    )
  }

  return {
    tables: ["pgboss.job"],
    publishEach: publishing(`boss.send, max ${connections} connections`, (queue, messages) =>
      inParallel(64, messages, (message) => boss.send(queue, message))
    ),
    publishInTransaction: publishing(`boss.send with db, pool of ${connections}`, (queue, messages) =>
      inParallel(connections, messages, (message) =>
        transact(pool, async (client) => {
          await client.query({ name: "purchase", text: Business.purchase, values: [message.seq, message.account] })
          await boss.send(queue, message, { db: joined(client) })
        })
      )
    ),
    publishBatches: publishing("boss.insert", (queue, messages) => insert(queue, messages, false)),
    deliver: {
      settings: "boss.send, useListenNotify, notify: true, batchSize 100, localConcurrency 2",
      begin: Effect.map(newQueue({ notify: true }), (queue) => ({
        publish: (message) => Effect.tryPromise(() => boss.send(queue, message)),
        consume: (watch) =>
          Effect.acquireRelease(
            Effect.tryPromise(() =>
              boss.work<Message.Message>(queue, { ...burst, batchSize: 100, localConcurrency: 2 }, count(watch))
            ),
            () => Effect.promise(() => boss.offWork(queue))
          )
      }))
    },
    consume: nothing(1000, 2, false),
    consumeOrdered: nothing(1000, 1, true),
    exactlyOnceEach: transactional(500, 1, async (jobs, tx) => {
      for (const { data } of jobs) await tx.executeSql(Business.applyOne, [data.account, data.seq])
    }),
    exactlyOnceBatch: transactional(1000, 1, (jobs, tx) =>
      tx.executeSql(Business.applyBatch, [jobs.map(({ data }) => data.account), jobs.map(({ data }) => data.seq)])
    )
  } satisfies Opened
})

export const pgBoss: System = { name: "pg-boss", role: "peer", open }
