import { Effect } from "effect"
import * as Business from "../business.ts"
import type { Database } from "../system.ts"
import { itself, type Row, type Workload } from "../workload.ts"
import { consuming } from "./consuming.ts"
import { delivering } from "./delivering.ts"

const row = (suffix: string, title: string): Row => ({
  suffix,
  title: `${title}, under a foreign snapshot that is held open: as a share of what it is without one`,
  unit: "×",
  better: "more",
  bars: [itself("least", 0.5)]
})

/** Holds a snapshot until the scope closes: no dead row of the database can be removed meanwhile. */
const held = Effect.fnUntraced(function* ({ sql }: Database) {
  const connection = yield* sql.reserve
  yield* connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ", [], undefined)
  yield* connection.execute("SELECT pg_current_xact_id()::text", [], undefined)
  yield* Effect.addFinalizer(() => Effect.ignore(connection.execute("ROLLBACK", [], undefined)))
})

export const snapshot: Workload = {
  name: "snapshot",
  of: "ours",
  rows: [
    row("latency", "the median time from publish to handled"),
    row("consume", "exactly-once with one awaited UPDATE per message")
  ],
  run: (opened, database, size) => {
    const { deliver } = opened
    const consume = consuming(opened.exactlyOnceEach, opened, database, size, { applied: true })
    if (deliver === undefined || consume === undefined) return undefined
    const measure = Effect.gen(function* () {
      const [latency] = yield* Effect.scoped(delivering(deliver, size))
      const [rate] = yield* Effect.scoped(consume.measure)
      yield* Business.reset(database.sql)
      return { latency, rate: rate! }
    })
    return {
      settings: consume.settings,
      measure: Effect.gen(function* () {
        const without = yield* measure
        yield* held(database)
        const under = yield* measure
        return [without.latency / under.latency, under.rate / without.rate]
      })
    }
  }
}
