/** Transactions that append at once, and commit in another order than they began. */
import { type Comparison, versionOf } from "../comparison.ts"
import * as Emmett from "./emmett.ts"
import { expected, transactions, writers } from "./load.ts"
import * as Surety from "./surety.ts"

export const appends: Comparison = {
  name: "appends",
  about: `${writers} writers append ${expected.appended} messages in ${transactions.length} transactions, and a consumer reads meanwhile.`,
  expected,
  contestants: [
    {
      system: "emmett-postgresql, consumer of the event store",
      version: versionOf("@event-driven-io/emmett-postgresql", import.meta.url),
      ours: false,
      run: Emmett.run
    },
    {
      system: "Surety, at-least-once",
      version: versionOf("@surety/pg", import.meta.url),
      ours: true,
      run: Surety.run
    }
  ]
}
