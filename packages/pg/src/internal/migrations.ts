/**
 * The schema, as versioned migrations. A migration that was released is never
 * changed.
 */
import type { Names } from "./sql/common.ts"
import { delayedFunctions } from "./sql/delayed.ts"
import { groupFunctions } from "./sql/groups.ts"
import { logFunctions } from "./sql/log.ts"
import { retentionFunctions } from "./sql/retention.ts"
import { tables } from "./sql/tables.ts"

export interface Migration {
  readonly id: number
  readonly name: string
  readonly statements: (names: Names) => ReadonlyArray<string>
}

export const migrations: ReadonlyArray<Migration> = [
  {
    id: 1,
    name: "log_groups_inbox",
    statements: (names) => [
      ...tables(names),
      ...logFunctions(names),
      ...groupFunctions(names),
      ...delayedFunctions(names),
      ...retentionFunctions(names)
    ]
  }
]

export const latest: number = migrations[migrations.length - 1]!.id
