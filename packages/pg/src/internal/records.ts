/** Records as the columns of the log, and back. */
import * as PgTypes from "@effect/sql-pg/PgTypes"
import { partitionOf } from "@surety/core/Backend"
import type { EncodedRecord, Headers, StoredRecord } from "@surety/core/Envelope"
import type { ClaimedRecord } from "@surety/core/Transport"
import * as Result from "effect/Result"
import { escape, unescape } from "./text.ts"
import type { TopicRow } from "./topics.ts"

/** A function that remembers its last result: records that were published together mostly share their headers. */
const remembering = <A, B>(f: (input: A) => B): ((input: A) => B) => {
  let last: { readonly input: A; readonly output: B } | undefined
  return (input) => {
    if (last === undefined || last.input !== input) last = { input, output: f(input) }
    return last.output
  }
}

const parseHeaders = remembering((text: string): Headers => JSON.parse(text))
const renderHeaders = remembering((headers: Headers): string => JSON.stringify(headers))

/** A record as it is stored, in the log and among the dead letters. */
export interface Row {
  readonly log_offset: bigint
  readonly id: string
  readonly key: string | null
  readonly headers: string
  readonly published_at: Date
  readonly payload: Uint8Array
}

export const toRecord = (partition: number, row: Row): StoredRecord => ({
  id: unescape(row.id),
  key: row.key === null ? undefined : unescape(row.key),
  headers: parseHeaders(row.headers),
  time: row.published_at.getTime(),
  payload: row.payload,
  partition,
  offset: Number(row.log_offset)
})

export interface ClaimRow extends Row {
  readonly claims: number | null
  readonly failures: number | null
}

export const toClaimed = (partition: number, row: ClaimRow): ClaimedRecord => ({
  ...toRecord(partition, row),
  attempts: row.claims === null ? undefined : { claims: row.claims, failures: row.failures! }
})

/** What a record is made of, wherever it is stored: from `id` to `payload`. */
export const fields = ({ headers, id, key, payload, time }: EncodedRecord) =>
  [escape(id), key === undefined ? null : escape(key), renderHeaders(headers), new Date(time), payload] as const

/** The same of several records: one array for each column. */
export const fieldColumns = (records: ReadonlyArray<EncodedRecord>): ReadonlyArray<PgTypes.Parameter> => {
  const rows = records.map(fields)
  return columnTypes.map((type, column) =>
    array(
      type,
      rows.map((row) => row[column])
    )
  )
}

const { bytea, int2, text, timestamptz } = PgTypes.OID
const columnTypes = [text, text, text, timestamptz, bytea]

/** An array whose type is told: the client would look at each element to find it out, and could not where all are NULL. */
const array = (elementOid: number, values: ReadonlyArray<unknown>): PgTypes.Parameter =>
  Result.getOrThrow(PgTypes.array(values, elementOid))

export const partitionsOf = (records: ReadonlyArray<EncodedRecord>, { partitions }: TopicRow): ReadonlyArray<number> =>
  records.map((record) => partitionOf(record, partitions))

/** One array for each column, in the order of the parameters of `publish`. */
export const toColumns = (
  records: ReadonlyArray<EncodedRecord>,
  partitions: ReadonlyArray<number>
): ReadonlyArray<PgTypes.Parameter> => [array(int2, partitions), ...fieldColumns(records)]
