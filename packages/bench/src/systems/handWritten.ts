/**
 * What one would write by hand with `pg`: a log table, a cursor for each
 * partition, an inbox. It bounds what the others can reach, and keeps less than
 * they do: no retries, no dead letters, no leases, one process, and its reader
 * skips what a slow transaction commits late.
 */
import { Effect, Redacted } from "effect"
import { Client, type PoolClient } from "pg"
import * as Business from "../business.ts"
import * as Message from "../message.ts"
import { inParallel, inTransaction, makePool, transact } from "../promises.ts"
import type { Consuming, Database, Opened, Part, Publishing, System, Watch } from "../system.ts"

const partitions = 4
const batchSize = 500
const connections = 16

const schema = `
  CREATE SCHEMA hand;
  CREATE TABLE hand.log (
    partition integer NOT NULL, log_offset bigint GENERATED ALWAYS AS IDENTITY, id text NOT NULL, body bytea NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (partition, log_offset)
  );
  CREATE TABLE hand.cursor (partition integer PRIMARY KEY, settled bigint NOT NULL, epoch integer NOT NULL) WITH (fillfactor = 50);
  CREATE TABLE hand.inbox (id text PRIMARY KEY, settled_at timestamptz NOT NULL DEFAULT now());
`

const insertOne = {
  name: "insert-one",
  text: "INSERT INTO hand.log (partition, id, body) VALUES ($1, $2, $3)"
}
const insertMany = {
  name: "insert-many",
  text: "INSERT INTO hand.log (partition, id, body) SELECT * FROM unnest($1::integer[], $2::text[], $3::bytea[])"
}
const read = {
  name: "read",
  text: `SELECT l.log_offset, l.id, l.body FROM hand.log l
    WHERE l.partition = $1 AND l.log_offset > $2 ORDER BY l.log_offset LIMIT ${batchSize}`
}
const readAll = {
  name: "read-all",
  text: `SELECT log_offset, body FROM hand.log WHERE log_offset > $1 ORDER BY log_offset LIMIT ${batchSize}`
}
const insertAndNotify = {
  name: "insert-and-notify",
  text: "WITH inserted AS (INSERT INTO hand.log (partition, id, body) VALUES ($1, $2, $3)) SELECT pg_notify('hand', '')"
}
const admit = {
  name: "admit",
  text: "INSERT INTO hand.inbox (id) SELECT * FROM unnest($1::text[]) AS id ORDER BY id ON CONFLICT DO NOTHING RETURNING id"
}
const settle = {
  name: "settle",
  text: "UPDATE hand.cursor SET settled = $2 WHERE partition = $1 AND epoch = 1"
}
const purchase = { name: "purchase", text: Business.purchase }
const applyOne = { name: "apply-one", text: Business.applyOne }
const applyBatch = { name: "apply-batch", text: Business.applyBatch }

interface Row {
  readonly log_offset: string
  readonly id: string
  readonly body: Buffer
}

const columnsOf = (message: Message.Message): [number, string, Buffer] => [
  message.account % partitions,
  Message.idOf(message),
  Buffer.from(JSON.stringify(message))
]

const open = Effect.fnUntraced(function* ({ sql, url }: Database) {
  const pool = yield* makePool(Redacted.value(url), connections)
  yield* Effect.tryPromise(() => pool.query(schema))

  const publishBatch = (messages: ReadonlyArray<Message.Message>) => {
    const rows = messages.map(columnsOf)
    return pool.query({
      ...insertMany,
      values: [rows.map(([p]) => p), rows.map(([, id]) => id), rows.map(([, , b]) => b)]
    })
  }

  const publishing = (
    settings: string,
    publish: (messages: ReadonlyArray<Message.Message>) => Promise<void>
  ): Part<Publishing> => ({
    settings,
    begin: Effect.succeed({
      publish: (messages) => Effect.tryPromise(() => publish(messages)),
      stored: Effect.map(
        sql<{
          total: number
          distinct: number
        }>`SELECT count(*)::integer AS total, count(DISTINCT id)::integer AS distinct FROM hand.log`,
        ([row]) => row!
      )
    })
  })

  /** A batch of a partition: reads, handles and settles, in a transaction when there is an inbox. */
  const consuming = (
    settings: string,
    handle: (client: PoolClient, messages: ReadonlyArray<Message.Message>) => Promise<void>,
    inbox: boolean
  ): Part<Consuming> => ({
    settings,
    begin: Effect.gen(function* () {
      yield* sql`TRUNCATE hand.cursor`
      yield* sql`INSERT INTO hand.cursor SELECT p, 0, 1 FROM generate_series(0, ${partitions - 1}::integer) p`
      return {
        fill: (messages) =>
          Effect.tryPromise(async () => {
            for (const chunk of Message.chunksOf(messages, 1000)) await publishBatch(chunk)
          }),
        consume: (watch) =>
          Effect.forkScoped(
            Effect.promise(async (signal) => {
              const lane = async (partition: number) => {
                const client = await pool.connect()
                let settled = "0"
                const batch = async (): Promise<boolean> => {
                  const { rows } = await client.query<Row>({ ...read, values: [partition, settled] })
                  if (rows.length === 0) return false
                  let fresh = rows
                  if (inbox) {
                    const admitted = await client.query<{ id: string }>({
                      ...admit,
                      values: [rows.map(({ id }) => id)]
                    })
                    const ids = new Set(admitted.rows.map(({ id }) => id))
                    fresh = rows.filter(({ id }) => ids.has(id))
                  }
                  const messages = fresh.map(({ body }): Message.Message => JSON.parse(body.toString()))
                  watch.begins()
                  await handle(client, messages)
                  settled = rows.at(-1)!.log_offset
                  const { rowCount } = await client.query({ ...settle, values: [partition, settled] })
                  if (rowCount !== 1) throw new Error("fenced")
                  for (const message of messages) watch.handled(message)
                  return true
                }
                let more = true
                while (more && !signal.aborted) {
                  if (inbox) await inTransaction(client, async () => (more = await batch()))
                  else more = await batch()
                }
                client.release()
              }
              await Promise.all(Array.from({ length: partitions }, (_, partition) => lane(partition)))
            })
          ),
        unsettled: Effect.map(
          sql<{ n: number }>`SELECT count(*)::integer AS n FROM hand.log l JOIN hand.cursor c USING (partition)
            WHERE l.log_offset > c.settled`,
          ([row]) => row!.n
        )
      } satisfies Consuming
    })
  })

  /** Woken by a notification; those that come meanwhile share the next read. */
  const listen = async (watch: Watch) => {
    const client = new Client({ connectionString: Redacted.value(url) })
    await client.connect()
    let reading = false
    let again = false
    let settled = "0"
    const readOn = async () => {
      do {
        again = false
        const { rows } = await client.query<Row>({ ...readAll, values: [settled] })
        for (const { body } of rows) watch.handled(JSON.parse(body.toString()))
        settled = rows.at(-1)?.log_offset ?? settled
      } while (again)
      reading = false
    }
    client.on("notification", () => {
      again = true
      if (reading) return
      reading = true
      void readOn()
    })
    await client.query("LISTEN hand")
    return client
  }

  const nothing = async () => {}
  const lanes = `pg, ${partitions} lanes, batches of ${batchSize}`
  return {
    tables: ["hand.log", "hand.inbox"],
    publishEach: publishing(`pg, single INSERTs, ${connections} connections`, (messages) =>
      inParallel(64, messages, (message) => pool.query({ ...insertOne, values: columnsOf(message) }))
    ),
    publishInTransaction: publishing(`pg, ${connections} connections`, (messages) =>
      inParallel(connections, messages, (message) =>
        transact(pool, async (client) => {
          await client.query({ ...purchase, values: [message.seq, message.account] })
          await client.query({ ...insertOne, values: columnsOf(message) })
        })
      )
    ),
    publishBatches: publishing("pg, INSERT … SELECT unnest", async (messages) => {
      for (const chunk of Message.chunksOf(messages, 1000)) await publishBatch(chunk)
    }),
    deliver: {
      settings: "pg, INSERT with pg_notify, LISTEN",
      begin: Effect.succeed({
        publish: (message) => Effect.tryPromise(() => pool.query({ ...insertAndNotify, values: columnsOf(message) })),
        consume: (watch) =>
          Effect.acquireRelease(
            Effect.tryPromise(() => listen(watch)),
            (client) => Effect.promise(() => client.end())
          )
      })
    },
    consume: consuming(lanes, nothing, false),
    consumeOrdered: consuming(lanes, nothing, false),
    exactlyOnceEach: consuming(
      `${lanes} and their inbox rows in a transaction`,
      async (client, messages) => {
        for (const { account, seq } of messages) await client.query({ ...applyOne, values: [account, seq] })
      },
      true
    ),
    exactlyOnceBatch: consuming(
      `${lanes} and their inbox rows in a transaction`,
      async (client, messages) => {
        const values = [messages.map(({ account }) => account), messages.map(({ seq }) => seq)]
        await client.query({ ...applyBatch, values })
      },
      true
    )
  } satisfies Opened
})

export const handWritten: System = { name: "hand-written", role: "limit", open }
