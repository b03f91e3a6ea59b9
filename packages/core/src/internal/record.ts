import type { EncodedRecord } from "../Envelope.ts"

const encoder = new TextEncoder()

/** The size of a record, as transports limit it: UTF-8 bytes of id, key and headers, and the payload. */
export const recordBytes = (record: EncodedRecord): number => {
  let bytes = record.payload.length + encoder.encode(record.id).length
  if (record.key !== undefined) bytes += encoder.encode(record.key).length
  for (const [name, value] of Object.entries(record.headers)) {
    bytes += encoder.encode(name).length + encoder.encode(value).length
  }
  return bytes
}
