/** A worker that takes one message of the queue, in a transaction around it. */
import { Effect, Layer } from "effect"
import * as SqlClient from "effect/sql/SqlClient"
import { handle, layerClient, name, ready } from "../charge.ts"
import { charges, layerQueue } from "../persistedQueue.ts"

const program = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const queue = yield* charges
  // What polls starts with the first take, and would stay in the transaction of that.
  yield* queue.offer({ id: name })
  yield* queue.take(() => Effect.void)
  yield* ready
  yield* sql.withTransaction(queue.take(handle))
})

await Effect.runPromise(program.pipe(Effect.provide(layerQueue.pipe(Layer.provideMerge(layerClient)))))
