/** Records as the columns of the log, and back. */
import { partitionOf } from "@surety/core/Backend"
import type { EncodedRecord, StoredRecord } from "@surety/core/Envelope"
import type { ClaimedRecord } from "@surety/core/Transport"
import { escape, escapeOptional, unescape } from "./text.ts"

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
  headers: JSON.parse(row.headers),
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

/** Those that were published together mostly share theirs. */
const headersOf = (records: ReadonlyArray<EncodedRecord>): Array<string> => {
  let last: EncodedRecord["headers"] | undefined
  let text = ""
  return records.map(({ headers }) => {
    if (headers !== last) text = JSON.stringify(headers)
    last = headers
    return text
  })
}

/** What a record is made of, wherever it is stored: one array for each column, from `id` to `payload`. */
export const fieldColumns = (
  records: ReadonlyArray<EncodedRecord>
): readonly [
  ids: Array<string>,
  keys: Array<string>,
  headers: Array<string>,
  times: Array<Date>,
  payloads: Array<Uint8Array>
] => [
  records.map(({ id }) => escape(id)),
  records.map(({ key }) => escapeOptional(key)),
  headersOf(records),
  records.map(({ time }) => new Date(time)),
  records.map(({ payload }) => payload)
]

/** One array for each column, in the order of the parameters of `publish`. */
export const toColumns = (
  records: ReadonlyArray<EncodedRecord>,
  partitions: number
): readonly [
  partitions: Array<number>,
  ids: Array<string>,
  keys: Array<string>,
  headers: Array<string>,
  times: Array<Date>,
  payloads: Array<Uint8Array>
] => [records.map((record) => partitionOf(record, partitions)), ...fieldColumns(records)]
