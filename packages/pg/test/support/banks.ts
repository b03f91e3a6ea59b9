/** Two banks in databases of their own, and the transfers between them. */
import { Topic } from "@surety/core"
import { Schema } from "effect"

export const Transfer = Schema.Struct({
  id: Schema.String,
  from: Schema.Int,
  to: Schema.Int,
  amount: Schema.Int
})

export const Transfers = Topic.make("transfers", {
  schema: Transfer,
  guarantee: "exactly-once",
  id: ({ id }) => id,
  key: ({ to }) => `${to}`,
  partitions: 4
})

export interface BankUrls {
  readonly here: string
  readonly broker: string
  readonly there: string
}

/** Without a unique id: a transfer that is credited twice is to show. */
export const bankTables = [
  "CREATE TABLE account (id integer PRIMARY KEY, balance integer NOT NULL)",
  "CREATE TABLE credited (id text NOT NULL)"
]
