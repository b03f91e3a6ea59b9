/**
 * Histories: what a run of a program did, as a list of events, and the
 * invariants that every such list must satisfy.
 *
 * A recorder collects events while handlers run; what can only be read from the
 * store (committed effects, dead letters, progress) is added when the run is
 * quiescent: everything that was published is settled, and nothing is going on.
 * The checks are pure functions of the list.
 *
 * Known limits: a check sees what was recorded. One that finds nothing in a
 * history without commits, say, has checked nothing about commits.
 *
 * @since 0.1.0
 */
import { Signal } from "@surety/core/Backend"
import type * as Guarantee from "@surety/core/Guarantee"
import type { StartFrom } from "@surety/core/Transport"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as delivery from "./internal/history/delivery.ts"
import * as dispositions from "./internal/history/dispositions.ts"
import * as limits from "./internal/history/limits.ts"
import * as order from "./internal/history/order.ts"
import * as outgoing from "./internal/history/outgoing.ts"
import * as render from "./internal/history/render.ts"
import * as units from "./internal/history/units.ts"

/**
 * One run of a handler: one attempt of one message.
 *
 * @category models
 * @since 0.1.0
 */
export interface Run {
  /** A number of its own in the history. */
  readonly run: number
  readonly node: string
  readonly topic: string
  readonly group: string
  readonly id: string
  readonly key: string | undefined
  readonly partition: number
  readonly offset: number
  readonly attempt: number
  readonly epoch: number
}

/**
 * What happened, by its vocabulary.
 *
 * **Details**
 *
 * - `Register`: a group exists on a topic. `batchSize` is 1 where each message is settled alone;
 *   `prefetch` how many messages of a partition it may hold, where that is known.
 * - `Join`, `Leave`: a consumer of a group begins on a node, and has ended in order.
 * - `Publish`: a publish ended: `ok` acknowledged, `fail` certainly not stored,
 *   `info` unknown. `call` is the `seq` at which it began, `index` the place in
 *   its batch. One that joined the transaction of a handler names its `run`.
 * - `Start`, `End`: of a handler's run.
 * - `Apply`: a run wrote an effect, a step of its work, in its transaction.
 * - `Commit`: that effect was found in the store at the end, in the order of writing.
 * - `Settle`: a settlement was asked for, at `call`, and answered.
 * - `DeadLetter`, `Progress`: found in the store at the end; so is `Residue`, of rows or
 *   entries that only what is unsettled may have.
 * - `Redrive`: a dead letter is to be handed to its group again.
 * - `Calm`: faults are over; what is to be done is done within so many milliseconds.
 * - `Crash`: the node ended, with all of its runs. `Restart`: it began anew.
 *   `Disconnect`, `Reconnect`: it was cut off from the store, and went on not
 *   knowing, or was frozen. `Fault`: of another kind, in words.
 *
 * `content` is anything that must be the same at every hop: a digest of payload
 * and headers, say.
 *
 * @category models
 * @since 0.1.0
 */
export type Fact =
  | {
      readonly _tag: "Register"
      readonly topic: string
      readonly group: string
      readonly guarantee: Guarantee.Name
      readonly from: StartFrom
      readonly batchSize: number
      readonly prefetch?: number | undefined
    }
  | {
      readonly _tag: "Join" | "Leave"
      readonly node: string
      readonly topic: string
      readonly group: string
    }
  | {
      readonly _tag: "Publish"
      readonly outcome: "ok" | "fail" | "info"
      readonly node: string
      readonly topic: string
      readonly id: string
      readonly key: string | undefined
      readonly call: number
      readonly index: number
      readonly run: number | undefined
      readonly content: string | undefined
    }
  | (Run & {
      readonly _tag: "Start"
      readonly content: string | undefined
      /** The first run of those whose messages were given to their handler together. */
      readonly batch?: number | undefined
    })
  | (Run & { readonly _tag: "End"; readonly outcome: "ok" | "fail" | "interrupt" })
  | { readonly _tag: "Apply"; readonly run: number; readonly step: number }
  | { readonly _tag: "Commit"; readonly run: number; readonly step: number }
  | {
      readonly _tag: "Settle"
      readonly outcome: "ok" | "fail" | "info"
      readonly node: string
      readonly topic: string
      readonly group: string
      readonly partition: number
      readonly offset: number
      readonly epoch: number
      readonly call: number
    }
  | {
      readonly _tag: "DeadLetter"
      readonly topic: string
      readonly group: string
      readonly id: string
      readonly partition: number
      readonly offset: number
      readonly attempts: number
      readonly content: string | undefined
      /** The failure's cause, rendered. */
      readonly cause?: string | undefined
    }
  | {
      readonly _tag: "Redrive"
      readonly topic: string
      readonly group: string
      readonly id: string
      readonly partition: number
      readonly offset: number
      /** It comes as a record of its own, at the end of its partition. */
      readonly appended?: boolean | undefined
    }
  | {
      readonly _tag: "Progress"
      readonly topic: string
      readonly group: string
      readonly partition: number
      readonly settled: number
    }
  | {
      readonly _tag: "Residue"
      readonly topic: string
      readonly group: string
      /** Such as attempts, redeliveries, members or leases. */
      readonly what: string
      readonly count: number
    }
  | { readonly _tag: "Calm"; readonly within: number }
  | { readonly _tag: "Crash"; readonly node: string }
  | { readonly _tag: "Restart"; readonly node: string }
  | {
      readonly _tag: "Fault"
      readonly node: string
      /** Such as `lose-reply`. */
      readonly kind: string
      /** The step that it struck, where it struck one. */
      readonly operation: string | undefined
      readonly what: string
    }
  | { readonly _tag: "Disconnect"; readonly node: string }
  | { readonly _tag: "Reconnect"; readonly node: string }

/**
 * A fact, with its place in the history and the time at which it was recorded,
 * in milliseconds.
 *
 * @category models
 * @since 0.1.0
 */
export type Event = Fact & { readonly seq: number; readonly time: number }

/**
 * The events of one kind.
 *
 * @category models
 * @since 0.1.0
 */
export type EventOf<Tag extends Event["_tag"]> = Extract<Event, { readonly _tag: Tag }>

/**
 * Events in the order in which they were recorded.
 *
 * @category models
 * @since 0.1.0
 */
export type History = ReadonlyArray<Event>

/**
 * An invariant that does not hold: its number and name in TESTING.md, a
 * sentence, and the events that show it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Violation {
  readonly invariant: number
  readonly name: string
  readonly message: string
  readonly events: ReadonlyArray<Event>
}

/**
 * Collects events.
 *
 * @category models
 * @since 0.1.0
 */
export interface Recorder {
  /** What was recorded so far: the list itself, which grows. */
  readonly events: History
  /** The `seq` of the next event. */
  readonly next: number
  readonly record: (fact: Fact) => Effect.Effect<Event>
  /** Changes with every event: wait on it instead of on time. */
  readonly signal: Signal
}

/**
 * Makes a recorder. Times are Effect's `Clock`'s, since the first event.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (): Recorder => {
  const events: Array<Event> = []
  const signal = new Signal()
  let start: number | undefined
  return {
    events,
    get next() {
      return events.length
    },
    record: (fact) =>
      Effect.map(Clock.currentTimeMillis, (now) => {
        start ??= now
        const event: Event = { ...fact, seq: events.length, time: now - start }
        events.push(event)
        signal.notify()
        return event
      }),
    signal
  }
}

/**
 * Gives facts their places: a history by hand.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromFacts = (facts: ReadonlyArray<Fact>): History =>
  facts.map((fact, seq) => ({ ...fact, seq, time: seq }))

/**
 * Invariant 1: what is handled or dead-lettered was published.
 *
 * @category invariants
 * @since 0.1.0
 */
export const noInvention: (history: History) => ReadonlyArray<Violation> = delivery.noInvention

/**
 * Invariant 2: nothing is delivered from a publish that failed for certain, or
 * from a transaction that rolled back.
 *
 * @category invariants
 * @since 0.1.0
 */
export const noAbortedRead: (history: History) => ReadonlyArray<Violation> = delivery.noAbortedRead

/**
 * Invariant 3: in groups of at-most-once topics a handler starts at most once
 * per record, and once more for each redrive of it.
 *
 * @category invariants
 * @since 0.1.0
 */
export const atMostOnce: (history: History) => ReadonlyArray<Violation> = delivery.atMostOnce

/**
 * Invariant 4: an acknowledged publish is handled or dead-lettered in every
 * group that was registered by then; at-most-once topics aside. Tells whether a
 * prefix, a suffix, or something in the middle is lost, or all of it.
 *
 * @category invariants
 * @since 0.1.0
 */
export const noLoss: (history: History) => ReadonlyArray<Violation> = delivery.noLoss

/**
 * Invariant 5: the committed effects of (topic, group, id) are those of exactly
 * one run that ended well, all of them, once.
 *
 * @category invariants
 * @since 0.1.0
 */
export const effectivelyOnce: (history: History) => ReadonlyArray<Violation> = units.effectivelyOnce

/**
 * Invariant 6: of two runs of one id that overlap in time, at most one commits.
 *
 * @category invariants
 * @since 0.1.0
 */
export const concurrentDuplicates: (history: History) => ReadonlyArray<Violation> = units.concurrentDuplicates

/**
 * Invariant 7: a run's effects, what it published and the settlement of its
 * message are all present or all absent. What it published is looked for in
 * groups that were registered on those topics.
 *
 * @category invariants
 * @since 0.1.0
 */
export const atomicUnit: (history: History) => ReadonlyArray<Violation> = units.atomicUnit

/**
 * Invariant 8: what a committed run has published is there, once; what a run
 * has published is not read before it has ended, nor if it did not commit.
 *
 * @category invariants
 * @since 0.1.0
 */
export const outboxComplete: (history: History) => ReadonlyArray<Violation> = outgoing.outboxComplete

/**
 * Invariant 9: of the records that any group has read, a group that reads from
 * the earliest one has none missing before the last that it has read itself.
 *
 * @category invariants
 * @since 0.1.0
 */
export const noSkippedRecord: (history: History) => ReadonlyArray<Violation> = delivery.noSkippedRecord

/**
 * Invariant 10: once a later epoch has started to work on a partition, no
 * settlement of an earlier one succeeds and no run of it commits.
 *
 * @category invariants
 * @since 0.1.0
 */
export const fencing: (history: History) => ReadonlyArray<Violation> = units.fencing

/**
 * Invariant 11: a message does not start before the earlier ones of its key
 * have ended for good, and effects of one key commit in publish order.
 *
 * @category invariants
 * @since 0.1.0
 */
export const orderWithinKey: (history: History) => ReadonlyArray<Violation> = order.orderWithinKey

/**
 * Invariant 13: attempts begin at 1, grow after a failure and after a crash,
 * never shrink, and never grow for a shutdown.
 *
 * @category invariants
 * @since 0.1.0
 */
export const attempts: (history: History) => ReadonlyArray<Violation> = order.attempts

/**
 * Invariant 14: a dead letter has a cause, and as many attempts as were made;
 * in a group that handles effectively once its message is dead or handled, and
 * that once; what is redriven goes to the group that failed, its attempts
 * counted anew.
 *
 * @category invariants
 * @since 0.1.0
 */
export const disposition: (history: History) => ReadonlyArray<Violation> = dispositions.dispositions

/**
 * Invariant 15: after a run of (topic, group, id) that committed no handler
 * starts for a duplicate.
 *
 * @category invariants
 * @since 0.1.0
 */
export const deduplication: (history: History) => ReadonlyArray<Violation> = dispositions.deduplication

/**
 * Invariant 16: what was acknowledged somebody has read, whatever became of its
 * publisher; what was refused nobody has.
 *
 * @category invariants
 * @since 0.1.0
 */
export const ackHonesty: (history: History) => ReadonlyArray<Violation> = outgoing.ackHonesty

/**
 * Invariant 18: what was published, and only that, is what each run was given.
 *
 * @category invariants
 * @since 0.1.0
 */
export const context: (history: History) => ReadonlyArray<Violation> = delivery.context

/**
 * Invariant 19: after faults have stopped, everything ends within the bound
 * that was stated then.
 *
 * @category invariants
 * @since 0.1.0
 */
export const convergence: (history: History) => ReadonlyArray<Violation> = limits.convergence

/**
 * Invariant 20: a message that nothing of its key precedes is not overtaken by
 * more messages of its partition than its group may hold.
 *
 * @category invariants
 * @since 0.1.0
 */
export const noStarvation: (history: History) => ReadonlyArray<Violation> = limits.noStarvation

/**
 * Invariant 21: a consumer that has stopped starts no handler, and leaves none
 * running.
 *
 * @category invariants
 * @since 0.1.0
 */
export const drained: (history: History) => ReadonlyArray<Violation> = limits.drained

/**
 * Invariant 22: when everything is settled, nothing is kept of how it was done.
 *
 * @category invariants
 * @since 0.1.0
 */
export const bounded: (history: History) => ReadonlyArray<Violation> = limits.bounded

/**
 * All invariants.
 *
 * @category invariants
 * @since 0.1.0
 */
export const invariants: ReadonlyArray<(history: History) => ReadonlyArray<Violation>> = [
  noInvention,
  noAbortedRead,
  atMostOnce,
  noLoss,
  effectivelyOnce,
  concurrentDuplicates,
  atomicUnit,
  outboxComplete,
  noSkippedRecord,
  fencing,
  orderWithinKey,
  attempts,
  disposition,
  deduplication,
  ackHonesty,
  context,
  convergence,
  noStarvation,
  drained,
  bounded
]

/**
 * What is wrong with a history of a run that has become quiescent.
 *
 * @category invariants
 * @since 0.1.0
 */
export const check = (history: History): ReadonlyArray<Violation> =>
  invariants.flatMap((invariant) => invariant(history))

/**
 * Violations as text, each with its events.
 *
 * @category rendering
 * @since 0.1.0
 */
export const format: (violations: ReadonlyArray<Violation>) => string = render.format

/**
 * A history as text, one event a line.
 *
 * @category rendering
 * @since 0.1.0
 */
export const timeline: (history: History) => string = render.timeline
