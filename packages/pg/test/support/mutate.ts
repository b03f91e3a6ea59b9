/** Switches a protection off: changes the source of one of the schema's functions, in this test's schema alone. */
import type { PgClient } from "@effect/sql-pg/PgClient"
import { Effect } from "effect"

export const mutate = Effect.fnUntraced(function* (
  sql: PgClient,
  schema: string,
  name: string,
  from: string,
  to: string
) {
  const [row] = yield* sql<{ definition: string }>`
    SELECT pg_get_functiondef(p.oid) AS definition FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = ${schema} AND p.proname = ${name}`
  const definition = row!.definition
  if (!definition.includes(from)) return yield* Effect.die(new Error(`${name} does not contain ${from}`))
  yield* sql.unsafe(definition.replace(from, to))
})
