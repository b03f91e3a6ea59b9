/**
 * One PostgreSQL for a whole run of the tests: their processes find it in
 * DATABASE_URL and create databases of their own on it. A server that is given
 * in DATABASE_URL is left alone.
 */
import * as TestPostgres from "@surety/testing/TestPostgres"
import { Context, Effect, Exit, Layer, Redacted, Scope } from "effect"

export default async () => {
  if (process.env.DATABASE_URL !== undefined) return
  const scope = Scope.makeUnsafe()
  const url = await Effect.runPromise(
    Effect.map(Layer.buildWithScope(TestPostgres.layerEmbedded, scope), (context) =>
      Redacted.value(Context.get(context, TestPostgres.TestPostgres).url)
    )
  )
  process.env.DATABASE_URL = url
  return () => Effect.runPromise(Scope.close(scope, Exit.void))
}
