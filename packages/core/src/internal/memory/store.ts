/**
 * The state of the in-memory backend. Everything that changes it is
 * synchronous, so that a commit is atomic.
 */
import type { Clock } from "effect/Clock"
import type { Effect } from "effect/Effect"
import * as Latch from "effect/Latch"
import { Signal } from "../../Backend.ts"
import type { DeadLetter } from "../../DeadLetters.ts"
import type { EncodedRecord, StoredRecord } from "../../Envelope.ts"
import type { Outcome } from "../../Inbox.ts"
import type { Attempts, ParkedRecord } from "../../Transport.ts"
import { PartitionLog } from "./partitionLog.ts"

export interface Settings {
  readonly leaseMillis: number
  readonly maxRecordBytes: number
  /** In milliseconds. */
  readonly retention: { readonly log: number | "forever"; readonly inbox: number | "forever" }
}

export interface Log {
  readonly partitions: ReadonlyArray<PartitionLog>
}

/** A record that is kept aside, whatever becomes of the log. */
export interface Parked extends ParkedRecord {
  readonly record: StoredRecord
  readonly storedAt: number
}

/** A record that becomes readable later. */
export interface Delayed {
  readonly dueAt: number
  readonly topic: string
  readonly record: EncodedRecord
}

export interface Cursor {
  readonly partition: number
  settled: number
  claimed: number
  epoch: number
  holder: object | undefined
  leaseUntil: number
  readonly attempts: Map<number, Attempts>
  readonly parked: Map<number, Parked>
  /** Transactions open on behalf of the current epoch; a takeover aborts them. */
  readonly transactions: Set<Tx>
}

export interface Group {
  readonly topic: string
  readonly name: string
  readonly cursors: ReadonlyArray<Cursor>
  /** Members in the order in which they joined, with the time until which each is believed alive. */
  readonly members: Map<object, number>
  readonly membership: Signal
  readonly redriven: Signal
  readonly inbox: Map<string, Outcome | "pending" | Tx>
  /** When the ids were settled, in that order. */
  readonly settledAt: Map<string, number>
  inboxTrimAt: number
  readonly deadLetters: Map<string, DeadLetter>
}

/** A transaction: what it will change is applied at once by its commit. */
export interface Tx {
  readonly checks: Array<() => boolean>
  readonly changes: Array<() => void>
  /** What an abort takes back, at once. */
  readonly undo: Array<() => void>
  /** Told after all that has changed. */
  readonly changed: Set<Signal>
  readonly afterCommit: Array<Effect<void>>
  /** How many savepoints were made, and those of them that were rolled back. */
  savepoints: number
  readonly rolledBack: Set<number>
  readonly ended: Latch.Latch
  state: "open" | "committed" | "aborted"
}

/** What a test may switch off, to show that it would be missed. */
export type Protection = "epoch" | "horizon" | "savepoint"

export interface Store {
  readonly settings: Settings
  readonly unprotected: ReadonlySet<Protection>
  readonly now: () => number
  readonly logs: Map<string, Log>
  readonly groups: Map<string, Group>
  /** By due time, then in publish order. */
  readonly delayed: { readonly waiting: Array<Delayed>; readonly changed: Signal }
  /** The latest epochs of fenced publishers. */
  readonly publishers: Map<string, number>
}

export const make = (settings: Settings, clock: Clock, unprotected: ReadonlySet<Protection>): Store => ({
  settings,
  unprotected,
  now: () => clock.currentTimeMillisUnsafe(),
  logs: new Map(),
  groups: new Map(),
  delayed: { waiting: [], changed: new Signal() },
  publishers: new Map()
})

export const groupKey = (topic: string, group: string): string => JSON.stringify([topic, group])

export const placeOf = ({ offset, partition }: { readonly partition: number; readonly offset: number }): string =>
  `${partition}/${offset}`

export const makeLog = ({ unprotected }: Store, partitions: number): Log => ({
  partitions: Array.from(
    { length: partitions },
    (_, partition) => new PartitionLog(partition, !unprotected.has("horizon"))
  )
})

export const makeGroup = (topic: string, name: string, log: Log, from: "earliest" | "latest"): Group => ({
  topic,
  name,
  cursors: log.partitions.map(({ end, partition }) => {
    const settled = from === "earliest" ? 0 : end
    return {
      partition,
      settled,
      claimed: settled,
      epoch: 0,
      holder: undefined,
      leaseUntil: 0,
      attempts: new Map(),
      parked: new Map(),
      transactions: new Set()
    }
  }),
  members: new Map(),
  membership: new Signal(),
  redriven: new Signal(),
  inbox: new Map(),
  settledAt: new Map(),
  inboxTrimAt: 0,
  deadLetters: new Map()
})

export const makeTx = (): Tx => ({
  checks: [],
  changes: [],
  undo: [],
  changed: new Set(),
  afterCommit: [],
  savepoints: 0,
  rolledBack: new Set(),
  ended: Latch.makeUnsafe(false),
  state: "open"
})

/** Ends a transaction: all of its changes, or none. Returns whether it committed. */
export const commit = (tx: Tx): boolean => {
  if (tx.state !== "open" || !tx.checks.every((check) => check())) {
    abort(tx)
    return false
  }
  for (const change of tx.changes) change()
  tx.state = "committed"
  tx.ended.openUnsafe()
  for (const signal of tx.changed) signal.notify()
  return true
}

export const abort = (tx: Tx): void => {
  if (tx.state !== "open") return
  for (const undo of tx.undo.reverse()) undo()
  tx.state = "aborted"
  tx.ended.openUnsafe()
  for (const signal of tx.changed) signal.notify()
}

/** What a transaction has done so far. Returned: what takes back all that it does from here on. */
export const savepoint = (tx: Tx): { readonly id: number; readonly rollBack: () => void } => {
  const id = ++tx.savepoints
  const [checks, changes, undo, afterCommit] = [tx.checks, tx.changes, tx.undo, tx.afterCommit].map(
    ({ length }) => length
  )
  const rollBack = () => {
    if (tx.state !== "open") return
    for (const back of tx.undo.splice(undo!).reverse()) back()
    tx.checks.length = checks!
    tx.changes.length = changes!
    tx.afterCommit.length = afterCommit!
    for (let inner = id; inner <= tx.savepoints; inner++) tx.rolledBack.add(inner)
    for (const signal of tx.changed) signal.notify()
  }
  return { id, rollBack }
}

/** Invariant 10: what the former holder has open ends without effect before the successor starts. */
export const takeOver = (cursor: Cursor, holder: object, leaseUntil: number): void => {
  for (const tx of cursor.transactions) abort(tx)
  cursor.transactions.clear()
  cursor.epoch += 1
  cursor.holder = holder
  cursor.leaseUntil = leaseUntil
}
