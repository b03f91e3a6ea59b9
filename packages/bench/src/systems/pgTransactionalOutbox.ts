/**
 * pg-transactional-outbox 0.5, as a publisher. Its polling listener took so long
 * that messages were still unsettled after a minute: it has no rows.
 */
import { Effect, Redacted } from "effect"
import type { PoolClient } from "pg"
import {
  DatabaseSetup,
  getDisabledLogger,
  initializeMessageStorage,
  type PollingListenerConfig,
  type TransactionalMessage
} from "pg-transactional-outbox"
import * as Business from "../business.ts"
import * as Message from "../message.ts"
import { inParallel, makePool, transact } from "../promises.ts"
import type { Database, Opened, Part, Publishing, System } from "../system.ts"

const connections = 16
const logger = getDisabledLogger()

const toTransactional = (message: Message.Message): TransactionalMessage => ({
  id: `00000000-0000-4000-8000-${String(message.seq).padStart(12, "0")}`,
  aggregateType: "account",
  aggregateId: String(message.account),
  messageType: "bench",
  segment: String(message.account),
  concurrency: "parallel",
  payload: message
})

const open = Effect.fnUntraced(function* ({ sql, url }: Database) {
  const connectionString = Redacted.value(url)
  const pool = yield* makePool(connectionString, connections)
  const config: PollingListenerConfig = {
    outboxOrInbox: "outbox",
    dbListenerConfig: { connectionString },
    settings: {
      dbSchema: "public",
      dbTable: "outbox",
      enableMaxAttemptsProtection: false,
      enablePoisonousMessageProtection: false,
      nextMessagesFunctionName: "next_outbox_messages"
    }
  }
  const tables = {
    outboxOrInbox: "outbox",
    database: "",
    schema: "public",
    table: "outbox",
    listenerRole: "",
    nextMessagesName: "next_outbox_messages"
  } as const
  yield* Effect.tryPromise(async () => {
    await pool.query(DatabaseSetup.dropAndCreateTable(tables))
    await pool.query(DatabaseSetup.createPollingFunction(tables))
    await pool.query(DatabaseSetup.setupPollingIndexes(tables))
  })
  const store = initializeMessageStorage(config, logger)
  /** A single INSERT needs no transaction around it. */
  const alone = pool as unknown as PoolClient

  const publishing = (
    settings: string,
    publish: (messages: ReadonlyArray<Message.Message>) => Promise<void>
  ): Part<Publishing> => ({
    settings,
    begin: Effect.succeed({
      publish: (messages) => Effect.tryPromise(() => publish(messages)),
      stored: Effect.map(
        sql<{ total: number; distinct: number }>`SELECT count(*)::integer AS total,
          count(DISTINCT payload->>'seq')::integer AS distinct FROM outbox`,
        ([row]) => row!
      )
    })
  })

  return {
    tables: ["outbox"],
    publishEach: publishing(`message storage, pool of ${connections}`, (messages) =>
      inParallel(64, messages, (message) => store(toTransactional(message), alone))
    ),
    publishInTransaction: publishing(`message storage, pool of ${connections}`, (messages) =>
      inParallel(connections, messages, (message) =>
        transact(pool, async (client) => {
          await client.query({ name: "purchase", text: Business.purchase, values: [message.seq, message.account] })
          await store(toTransactional(message), client)
        })
      )
    ),
    publishBatches: publishing("message storage, 1,000 calls in one transaction", async (messages) => {
      for (const chunk of Message.chunksOf(messages, 1000)) {
        await transact(pool, async (client) => {
          for (const message of chunk) await store(toTransactional(message), client)
        })
      }
    })
  } satisfies Opened
})

export const pgTransactionalOutbox: System = { name: "pg-transactional-outbox", role: "peer", open }
