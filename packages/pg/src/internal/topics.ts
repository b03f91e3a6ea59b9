/** Topics as rows: declared once per process. */
import type { TopicDeclaration } from "@surety/core/Transport"
import { TopicMismatch, TransportError } from "@surety/core/TransportError"
import * as Effect from "effect/Effect"
import { answeredRows, type Database } from "./database.ts"
import { toTransportError } from "./errors.ts"

export interface TopicRow {
  readonly id: number
  readonly name: string
  readonly partitions: number
}

export type Topics = (topic: TopicDeclaration) => Effect.Effect<TopicRow, TransportError>

export const make = (db: Database): Topics => {
  const declared = new Map<string, TopicRow>()

  const check = ({ name, partitions }: TopicDeclaration, row: TopicRow): Effect.Effect<TopicRow, TransportError> =>
    row.partitions === partitions
      ? Effect.succeed(row)
      : Effect.fail(
          new TransportError({
            operation: "declare",
            topic: name,
            reason: new TopicMismatch({ declared: partitions, stored: row.partitions })
          })
        )

  return (topic) =>
    Effect.suspend(() => {
      const known = declared.get(topic.name)
      if (known !== undefined) return check(topic, known)
      return answeredRows<{ id: number; partitions: number }>(
        db,
        `SELECT id, partitions FROM ${db.schema}.declare_topic($1, $2)`,
        [topic.name, topic.partitions]
      ).pipe(
        Effect.mapError(toTransportError("declare", topic.name)),
        Effect.flatMap(([row]) => check(topic, { name: topic.name, ...row! })),
        Effect.tap((row) => Effect.sync(() => declared.set(topic.name, row)))
      )
    })
}
