/**
 * graphile-worker 0.18, in the configuration of its page on performance. It has
 * no means to settle a job in the handler's transaction.
 */
import { Effect, Redacted } from "effect"
import { Logger, makeWorkerUtils, run, type TaskSpec, WorkerPreset } from "graphile-worker"
import * as Business from "../business.ts"
import * as Message from "../message.ts"
import { inParallel, makePool, transact } from "../promises.ts"
import type { Consuming, Database, Opened, Part, Publishing, System, Watch } from "../system.ts"

const connections = 16
const concurrentJobs = 24
const localQueue = { size: 500 }

const task = "bench"
const logger = new Logger(() => (level, message) => {
  if (level === "error") console.error(message)
})

const open = Effect.fnUntraced(function* ({ sql, url }: Database) {
  const connectionString = Redacted.value(url)
  const pool = yield* makePool(connectionString, connections)
  pool.on("error", (error) => console.error(error))
  pool.on("connect", (client) => client.on("error", (error) => console.error(error)))
  const utils = yield* Effect.acquireRelease(
    Effect.tryPromise(async () => {
      const utils = await makeWorkerUtils({ pgPool: pool, logger })
      await utils.migrate()
      return utils
    }),
    (utils) => Effect.promise(async () => utils.release())
  )
  const count = (columns: string) =>
    sql.unsafe<{ total: number; distinct: number }>(
      `SELECT count(*)::integer AS total, ${columns} FROM graphile_worker._private_jobs`
    )

  const publishing = (
    settings: string,
    publish: (messages: ReadonlyArray<Message.Message>) => Promise<unknown>
  ): Part<Publishing> => ({
    settings,
    begin: Effect.succeed({
      publish: (messages) => Effect.tryPromise(() => publish(messages)),
      stored: Effect.map(count("count(DISTINCT payload->>'seq')::integer AS distinct"), ([row]) => row!)
    })
  })

  const addJobs = async (messages: ReadonlyArray<Message.Message>, specOf: (message: Message.Message) => TaskSpec) => {
    for (const chunk of Message.chunksOf(messages, 1000)) {
      await utils.addJobs(
        chunk.map((payload) => ({ ...specOf(payload), identifier: task, payload, jobKeyMode: undefined as never }))
      )
    }
  }

  const work = (watch: Watch) =>
    Effect.acquireRelease(
      Effect.tryPromise(() =>
        run({
          preset: {
            extends: [WorkerPreset],
            worker: {
              connectionString,
              logger,
              concurrentJobs,
              maxPoolSize: concurrentJobs + 1,
              localQueue,
              completeJobBatchDelay: 0,
              failJobBatchDelay: 0
            }
          },
          noHandleSignals: true,
          taskList: {
            [task]: (payload) => {
              watch.begins()
              watch.handled(payload as Message.Message)
            }
          },
          parsedCronItems: []
        })
      ),
      (runner) => Effect.promise(() => runner.stop())
    )

  const consuming = (settings: string, specOf: (message: Message.Message) => TaskSpec): Part<Consuming> => ({
    settings,
    begin: Effect.succeed({
      fill: (messages) => Effect.tryPromise(() => addJobs(messages, specOf)),
      consume: work,
      unsettled: Effect.map(count("0 AS distinct"), ([row]) => row!.total)
    })
  })
  const settings = `concurrentJobs ${concurrentJobs}, localQueue ${localQueue.size}, completeJobBatchDelay 0`

  return {
    tables: ["graphile_worker._private_jobs", "graphile_worker._private_job_queues"],
    publishEach: publishing(`addJob, pool of ${connections}`, (messages) =>
      inParallel(64, messages, (message) => utils.addJob(task, message))
    ),
    publishInTransaction: publishing(`add_job in SQL, pool of ${connections}`, (messages) =>
      inParallel(connections, messages, (message) =>
        transact(pool, async (client) => {
          await client.query({ name: "purchase", text: Business.purchase, values: [message.seq, message.account] })
          await client.query({
            name: "add-job",
            text: "SELECT graphile_worker.add_job($1, $2::json)",
            values: [task, JSON.stringify(message)]
          })
        })
      )
    ),
    publishBatches: publishing("addJobs", (messages) => addJobs(messages, () => ({}))),
    deliver: {
      settings: `addJob, ${settings}`,
      begin: Effect.succeed({
        publish: (message) => Effect.tryPromise(() => utils.addJob(task, message)),
        consume: work
      })
    },
    consume: consuming(settings, () => ({})),
    consumeOrdered: consuming(`queueName per key, ${settings}`, ({ account }) => ({ queueName: String(account) }))
  } satisfies Opened
})

export const graphileWorker: System = { name: "graphile-worker", role: "peer", open }
