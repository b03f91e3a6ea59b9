/** Dead letters as rows. */
import type { DeadLetter } from "@surety/core/DeadLetters"
import type { Database } from "./database.ts"
import { fieldColumns, type Row, toRecord } from "./records.ts"

/** What errors say is for readers, and need not come back as it was. */
const printable = (text: string): string => text.replaceAll("\0", "\\0").toWellFormed()

export const toColumns = (letters: ReadonlyArray<DeadLetter>): ReadonlyArray<unknown> => [
  letters.map(({ record }) => record.partition),
  letters.map(({ record }) => BigInt(record.offset)),
  ...fieldColumns(letters.map(({ record }) => record)),
  letters.map(({ failure }) => printable(failure.tag)),
  letters.map(({ failure }) => printable(failure.message)),
  letters.map(({ failure }) => printable(failure.cause)),
  letters.map(({ attempts }) => attempts),
  letters.map(({ time }) => new Date(time))
]

const types = [
  "smallint[]",
  "bigint[]",
  "text[]",
  "text[]",
  "text[]",
  "timestamptz[]",
  "bytea[]",
  "text[]",
  "text[]",
  "text[]",
  "integer[]",
  "timestamptz[]"
]

/** An INSERT of the columns, which begin at parameter `first`; the same letter twice is stored once. */
export const insertSelect = (db: Database, group: string, from: string, first: number): string =>
  `INSERT INTO ${db.schema}.dead_letter (
    consumer_group, partition, log_offset, id, key, headers, published_at, payload,
    failure_tag, failure_message, failure_cause, attempts, dead_at
  )
  SELECT ${group}, d.partition, d.log_offset, d.id, d.key, d.headers, d.published_at, d.payload,
    d.failure_tag, d.failure_message, d.failure_cause, d.attempts, d.dead_at
  FROM ${from}unnest(${types.map((type, index) => `$${first + index}::${type}`).join(", ")}) AS d(
    partition, log_offset, id, key, headers, published_at, payload,
    failure_tag, failure_message, failure_cause, attempts, dead_at
  )
  ON CONFLICT DO NOTHING`

export interface DeadLetterRow extends Row {
  readonly topic: string
  readonly consumer_group: string
  readonly partition: number
  readonly failure_tag: string
  readonly failure_message: string
  readonly failure_cause: string
  readonly attempts: number
  readonly dead_at: Date
}

export const toDeadLetter = (row: DeadLetterRow): DeadLetter => ({
  topic: row.topic,
  group: row.consumer_group,
  record: toRecord(row.partition, row),
  failure: { tag: row.failure_tag, message: row.failure_message, cause: row.failure_cause },
  attempts: row.attempts,
  time: row.dead_at.getTime()
})
