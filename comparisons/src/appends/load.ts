/** What is appended, and how it is counted what came of it. */
import { Effect, Schema } from "effect"
import type { Counts } from "../comparison.ts"

export const Entry = Schema.Struct({ id: Schema.String })
export type Entry = typeof Entry.Type

/** So many transactions at once. */
export const writers = 8

const entriesEach = 10

/** A transaction: what it appends to which stream, and how long it stays open after that, for other work. */
export interface Transaction {
  readonly stream: string
  readonly entries: ReadonlyArray<Entry>
  readonly openSeconds: number
}

export const transactions: ReadonlyArray<Transaction> = Array.from({ length: 200 }, (_, index) => ({
  stream: `stream-${index}`,
  entries: Array.from({ length: entriesEach }, (_, n) => ({ id: `${index}:${n}` })),
  openSeconds: ((index * 7) % 20) / 1000
}))

/** Appended when all others have committed: once it is read, what has not been read never is. */
export const last: Transaction = { stream: "last", entries: [{ id: "last" }], openSeconds: 0 }

/** What a reader has been given. */
export class Reading {
  readonly #read: Array<string> = []
  readonly #ended = Promise.withResolvers<void>()

  /** Completes once the last entry was read. */
  readonly ended = Effect.promise(() => this.#ended.promise)

  read({ id }: Entry): void {
    if (id === last.entries[0]!.id) this.#ended.resolve()
    else this.#read.push(id)
  }

  /** What came of the messages that were stored. */
  counts(appended: number): Counts {
    const read = new Set(this.#read).size
    return { appended, read, lost: appended - read }
  }
}

const appended = transactions.length * entriesEach
export const expected = { appended, read: appended, lost: 0 } satisfies Counts
