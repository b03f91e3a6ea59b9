/** What the checks ask of a history. */
import type { Event, EventOf, History, Violation } from "../../History.ts"

/** Found out once for all checks of a history, and anew where events have been added to it. */
const once = <A>(find: (history: History) => A): ((history: History) => A) => {
  const known = new WeakMap<History, { readonly length: number; readonly found: A }>()
  return (history) => {
    const before = known.get(history)
    if (before !== undefined && before.length === history.length) return before.found
    const found = find(history)
    known.set(history, { length: history.length, found })
    return found
  }
}

const byTag = once(
  (history): ReadonlyMap<Event["_tag"], ReadonlyArray<any>> => Map.groupBy(history, ({ _tag }) => _tag)
)

export const only = <Tag extends Event["_tag"]>(history: History, tag: Tag): ReadonlyArray<EventOf<Tag>> =>
  byTag(history).get(tag) ?? []

/** A key of a map, for values of any text: each is preceded by its length. */
export const keyed = (...parts: ReadonlyArray<string | number | undefined>): string => {
  let key = ""
  for (const part of parts) key += typeof part === "string" ? `${part.length}:${part}` : `${part},`
  return key
}

export const groupBy = <A>(items: Iterable<A>, key: (item: A) => string): ReadonlyMap<string, ReadonlyArray<A>> =>
  Map.groupBy(items, key)

export const quote = (text: string): string => JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text)

export const violation =
  (invariant: number, name: string) =>
  (message: string, events: ReadonlyArray<Event | undefined>): Violation => ({
    invariant,
    name,
    message,
    events: Array.from(new Set(events.filter((event) => event !== undefined))).sort((a, b) => a.seq - b.seq)
  })

/** A run, from its start to its end, with what it did. */
export interface RunFacts {
  readonly start: EventOf<"Start">
  readonly end: EventOf<"End"> | undefined
  /** The place in the history at which it was over: its end, or the crash of its node. */
  readonly over: number
  readonly crashed: boolean
  readonly applied: ReadonlyArray<EventOf<"Apply">>
  readonly committed: ReadonlyArray<EventOf<"Commit">>
  readonly published: ReadonlyArray<EventOf<"Publish">>
}

export const runsOf = once((history): ReadonlyMap<number, RunFacts> => {
  const ends = new Map(only(history, "End").map((end) => [end.run, end]))
  const applied = groupBy(only(history, "Apply"), ({ run }) => String(run))
  const committed = groupBy(only(history, "Commit"), ({ run }) => String(run))
  const published = groupBy(only(history, "Publish"), ({ run }) => String(run))
  const crashes = only(history, "Crash")
  return new Map(
    only(history, "Start").map((start) => {
      const end = ends.get(start.run)
      const crash = crashes.find(({ node, seq }) => node === start.node && seq > start.seq)
      const key = String(start.run)
      return [
        start.run,
        {
          start,
          end,
          over: end?.seq ?? crash?.seq ?? Infinity,
          crashed: end === undefined && crash !== undefined,
          applied: applied.get(key) ?? [],
          committed: committed.get(key) ?? [],
          published: published.get(key) ?? []
        }
      ]
    })
  )
})

/**
 * Whether the unit of work of a run is in the store: told by its effects where
 * it wrote some, else by how it ended. Undefined where neither tells.
 */
export const isCommitted = (run: RunFacts | undefined): boolean | undefined => {
  if (run === undefined) return undefined
  if (run.applied.length > 0) return run.committed.length > 0
  if (run.end === undefined) return run.crashed ? undefined : false
  return run.end.outcome === "ok" ? undefined : false
}

/** Whether its message counts as handled by this run. */
export const isHandled = (run: RunFacts): boolean => run.end?.outcome === "ok" && isCommitted(run) !== false

/** Whether a publish came before another one for certain. */
export const before = (a: EventOf<"Publish">, b: EventOf<"Publish">): boolean =>
  a.call === b.call ? a.index < b.index : a.seq < b.call

interface InPlace {
  readonly topic: string
  readonly id: string
  readonly group: string
  readonly partition: number
  readonly offset: number
}

/** Where a group finds a record. */
export const placeOf = ({ group, offset, partition, topic }: Omit<InPlace, "id">): string =>
  keyed(topic, group, partition, offset)

/** The places in the history at which a record was redriven. One that was appended to its partition is known by its id. */
export const redrivesOf = once((history): ((of: InPlace) => ReadonlyArray<number>) => {
  const redrives = only(history, "Redrive")
  if (redrives.length === 0) return () => []
  const inPlace = groupBy(
    redrives.filter(({ appended }) => appended !== true),
    placeOf
  )
  const byId = ({ group, id, topic }: InPlace) => keyed(topic, group, id)
  const appended = groupBy(
    redrives.filter(({ appended }) => appended === true),
    byId
  )
  return (of) => [...(inPlace.get(placeOf(of)) ?? []), ...(appended.get(byId(of)) ?? [])].map(({ seq }) => seq)
})

/** Where an attempt may have been counted that nobody saw begin. */
export const cutsOf = once(
  (history): History =>
    history.filter(
      (event) =>
        event._tag === "Crash" ||
        event._tag === "Disconnect" ||
        // Its lease may be over before its handler begins.
        (event._tag === "Fault" && event.kind === "delay")
    )
)

/** Runs that began under an epoch when a later one had: of a holder that does not know yet that it is none. */
export const staleStarts = once((history): ReadonlySet<EventOf<"Start">> => {
  const epochs = new Map<string, number>()
  return new Set(
    only(history, "Start").filter(({ epoch, group, partition, topic }) => {
      const place = keyed(topic, group, partition)
      const latest = Math.max(epoch, epochs.get(place) ?? 0)
      epochs.set(place, latest)
      return epoch < latest
    })
  )
})

/**
 * Whether a node could have lost its leases without knowing it, at some time between two places in the history: it was cut
 * off or frozen, or a heartbeat of its was late or refused.
 */
export const cutOff = (history: History): ((node: string, from: number, to: number) => boolean) => {
  const until = new Map<Event, number>()
  for (const event of history) {
    if (event._tag === "Disconnect") {
      const back = history.find(
        (later) => later._tag === "Reconnect" && later.node === event.node && later.seq > event.seq
      )
      until.set(event, back?.seq ?? Infinity)
    } else if (event._tag === "Fault" && event.operation === "heartbeat") {
      until.set(event, Infinity)
    }
  }
  return (node, from, to) =>
    Array.from(until).some(([cut, end]) => "node" in cut && cut.node === node && cut.seq < to && end > from)
}
