/** Dead letters as records of a compacted topic beside their own, whose headers say why. */
import type { DeadLetter } from "@surety/core/DeadLetters"
import { encode as encodePlaced, Kept, names, type Placed } from "./placed.ts"
import type { Outgoing } from "./producer.ts"

const suffix = ".dead-letters"

export const letterTopic = (topic: string): string => `${topic}${suffix}`

/** The topic whose dead letters a topic holds. */
export const sourceOf = (name: string): string | undefined =>
  name.endsWith(suffix) ? name.slice(0, -suffix.length) : undefined

/** All of a topic's letters are in one partition: there are few, and they are read as a whole. */
export const declarationOf = (topic: string) => ({ name: letterTopic(topic), partitions: 1 })

const maxText = 16_000
const short = (text: string) => (text.length > maxText ? `${text.slice(0, maxText)}…`.toWellFormed() : text)

export const encode = ({ attempts, failure, group, record, time }: DeadLetter): Outgoing =>
  encodePlaced(group, record, {
    [names.tag]: short(failure.tag),
    [names.message]: short(failure.message),
    [names.cause]: short(failure.cause),
    [names.attempts]: `${attempts}`,
    [names.time]: `${time}`
  })

export const lettersOf = (topic: string): Kept<DeadLetter> => new Kept((placed) => toLetter(topic, placed))

/** By group, partition and offset. */
export const sorted = (letters: ReadonlyArray<DeadLetter>): ReadonlyArray<DeadLetter> =>
  letters.toSorted(
    (a, b) =>
      (a.group < b.group ? -1 : a.group > b.group ? 1 : 0) ||
      a.record.partition - b.record.partition ||
      a.record.offset - b.record.offset
  )

const toLetter = (topic: string, { group, header, record }: Placed): DeadLetter => ({
  topic,
  group,
  record,
  failure: {
    tag: header(names.tag) ?? "",
    message: header(names.message) ?? "",
    cause: header(names.cause) ?? ""
  },
  attempts: Number(header(names.attempts)),
  time: Number(header(names.time))
})
