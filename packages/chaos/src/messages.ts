/** What is published: the entries of accounts, in the order of their numbers. */
import { Producer, Topic } from "@surety/core"
import { Effect, Schema } from "effect"
import * as SqlClient from "effect/sql/SqlClient"

export const Entry = Schema.Struct({ account: Schema.Int, n: Schema.Int, amount: Schema.Int })
export type Entry = typeof Entry.Type

export const idOf = ({ account, n }: Pick<Entry, "account" | "n">): string => `${account}:${n}`

const entries = <const G extends "exactly-once" | "at-least-once">(guarantee: G) =>
  Topic.make("entries", {
    schema: Entry,
    guarantee,
    id: idOf,
    key: ({ account }) => `${account}`,
    partitions: 6
  })

export const Entries = entries("exactly-once")
/** The same topic, without an inbox: what it is for. */
export const EntriesWithoutInbox = entries("at-least-once")

/** One for each entry that was booked, published in the transaction that books it. */
export const Receipts = Topic.make("receipts", {
  schema: Schema.String,
  guarantee: "at-least-once",
  id: (text) => text,
  partitions: 2
})

export const group = "ledger"

/** Books an entry: no constraint keeps it from being booked twice. */
export const book = Effect.fnUntraced(function* (entry: Entry) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`INSERT INTO booking (account, n, amount) VALUES (${entry.account}, ${entry.n}, ${entry.amount})`
  yield* sql`UPDATE account SET balance = balance + ${entry.amount} WHERE id = ${entry.account}`
  yield* Producer.publish(Receipts, idOf(entry))
})
