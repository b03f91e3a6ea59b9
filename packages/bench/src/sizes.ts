/** What tables take. */
import { Effect } from "effect"
import type { Database } from "./system.ts"

/** With their indexes. */
export const megabytes = ({ sql }: Database, tables: ReadonlyArray<string>) =>
  Effect.map(
    sql<{
      bytes: number
    }>`SELECT sum(pg_total_relation_size(t::regclass))::float8 AS bytes FROM unnest(${tables}::text[]) t`,
    ([row]) => row!.bytes / 1024 ** 2
  )

export const isEmpty = ({ sql }: Database, tables: ReadonlyArray<string>) =>
  Effect.map(
    sql.unsafe<{ left: boolean }>(
      `SELECT ${tables.map((table) => `EXISTS (SELECT FROM ${table})`).join(" OR ")} AS left`
    ),
    ([row]) => !row!.left
  )

/** Dead rows that vacuum has not removed, of all tables of the database. */
export const deadRows = ({ sql }: Database) =>
  Effect.map(
    sql<{ dead: number }>`SELECT coalesce(sum(n_dead_tup), 0)::float8 AS dead FROM pg_stat_user_tables`,
    ([row]) => row!.dead
  )
