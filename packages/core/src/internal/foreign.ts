/**
 * Messages that another program has published. A transport hands them over with
 * an empty id, and with the headers that it found; who they are is told here,
 * the same on every delivery.
 */
import * as Option from "effect/Option"
import { attributes } from "../CloudEvents.ts"
import type { StoredRecord } from "../Envelope.ts"

/** Of what every transport has once: a place in its log. No topic has a `/` in its name. */
const placeId = (topic: string, { offset, partition }: StoredRecord): string => `${topic}/${partition}/${offset}`

/** RFC 3339, of years that every store can hold. */
const rfc3339 = /^\d{4}-\d{2}-\d{2}[Tt ]/

const timeOf = (time: string | undefined): number | undefined => {
  const millis = time !== undefined && rfc3339.test(time) ? Date.parse(time) : Number.NaN
  return Number.isNaN(millis) ? undefined : millis
}

/**
 * A record with its id: that of the CloudEvent that it is, which is unique
 * together with its source, or else of its place in the log.
 */
export const identify = <R extends StoredRecord>(topic: string, record: R): R => {
  if (record.id !== "") return record
  // A URI reference holds no space: no two pairs of a source and an id come to one id of ours.
  const event = Option.filter(attributes(record), ({ source }) => !source.includes(" "))
  if (Option.isNone(event)) return { ...record, id: placeId(topic, record) }
  const { extensions, id, source, time } = event.value
  return {
    ...record,
    id: `${source} ${id}`,
    key: record.key ?? extensions.partitionkey,
    time: timeOf(time) ?? record.time
  }
}

/** Whether a record has no id but its place: neither ours nor that of an event. */
export const isAnonymous = (topic: string, record: StoredRecord): boolean =>
  record.id.startsWith(topic) && record.id === placeId(topic, record)
