/** For the systems that are used with promises. */
import { Effect } from "effect"
import { Pool, type PoolClient } from "pg"

/** So many at once. */
export const inParallel = async <A>(
  concurrency: number,
  values: ReadonlyArray<A>,
  run: (value: A) => Promise<unknown>
): Promise<void> => {
  let next = 0
  const one = async () => {
    while (next < values.length) await run(values[next++]!)
  }
  await Promise.all(Array.from({ length: concurrency }, one))
}

export const inTransaction = async (client: PoolClient, body: () => Promise<unknown>): Promise<void> => {
  await client.query("BEGIN")
  try {
    await body()
    await client.query("COMMIT")
  } catch (error) {
    await client.query("ROLLBACK")
    throw error
  }
}

/** A transaction on a connection of the pool. */
export const transact = async (pool: Pool, body: (client: PoolClient) => Promise<unknown>): Promise<void> => {
  const client = await pool.connect()
  try {
    await inTransaction(client, () => body(client))
  } finally {
    client.release()
  }
}

export const makePool = (connectionString: string, max: number) =>
  Effect.acquireRelease(
    Effect.sync(() => new Pool({ connectionString, max, idleTimeoutMillis: 0 })),
    (pool) => Effect.promise(() => pool.end())
  )
