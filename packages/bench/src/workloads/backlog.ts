import { Deferred, Effect } from "effect"
import * as Business from "../business.ts"
import * as Message from "../message.ts"
import { isEmpty, megabytes } from "../sizes.ts"
import type { Database, Opened } from "../system.ts"
import { perSecond, until } from "../timing.ts"
import { itself, type Row, type Workload, Wrong } from "../workload.ts"

const count = 1_000_000
const tenth = count / 10
const patience = "15 minutes"

const row = (suffix: string, title: string, unit: Row["unit"], bars: Row["bars"], better: Row["better"]): Row => ({
  suffix,
  title: `a backlog of ${count.toLocaleString("en-US")}, set-based: ${title}`,
  unit,
  better,
  bars
})

const measure = Effect.fnUntraced(function* ({ exactlyOnceBatch, forget, tables }: Opened, database: Database) {
  const empty = yield* megabytes(database, tables)
  const messages = Message.make(count)
  const { consume, fill } = yield* exactlyOnceBatch!.begin
  yield* fill(messages)
  const all = Deferred.makeUnsafe<void>()
  const times: Array<number> = []
  let handled = 0
  yield* Effect.gen(function* () {
    yield* consume({
      begins: () => {
        if (times.length === 0) times.push(performance.now())
      },
      handled: () => {
        if (++handled % tenth === 0) times.push(performance.now())
        if (handled >= count) Deferred.doneUnsafe(all, Effect.void)
      }
    })
    yield* Effect.andThen(Deferred.await(all), Business.untilApplied(database.sql, count)).pipe(
      Effect.timeout(patience)
    )
  }).pipe(Effect.scoped)
  const wrong = yield* Business.wrongAccounts(database.sql, messages)
  if (wrong.length > 0) return yield* new Wrong({ detail: `lost, or applied twice: on ${wrong.length} accounts` })
  const after = yield* megabytes(database, tables)
  // As autovacuum does, sooner or later.
  const vacuum = database.sql.unsafe(`VACUUM ${tables.join(", ")}`)
  const forgotten = yield* Effect.gen(function* () {
    yield* forget!
    yield* until(isEmpty(database, tables))
    yield* vacuum
    let last = yield* megabytes(database, tables)
    // What is given back after that, until nothing more is.
    while (true) {
      yield* Effect.sleep("5 seconds")
      yield* vacuum
      const now = yield* megabytes(database, tables)
      if (now >= last) return now
      last = now
    }
  }).pipe(Effect.scoped)
  const share = (times[1]! - times[0]!) / (times[10]! - times[9]!)
  return [perSecond(count, times[10]! - times[0]!), share, after, forgotten, forgotten / empty]
})

export const backlog: Workload = {
  name: "backlog",
  long: true,
  once: true,
  of: "ours",
  rows: [
    row("rate", "throughput", "messages/s", [], "more"),
    row("last-tenth", "throughput of the last tenth, as a share of the first", "×", [itself("least", 0.9)], "more"),
    row("size", "log, inbox and attempts once it is handled", "MB", [], "less"),
    row("size-forgotten", "log, inbox and attempts after retention and VACUUM", "MB", [], "less"),
    row("space", "the same, as a multiple of empty tables", "×", [itself("most", 2)], "less")
  ],
  run: (opened, database) =>
    opened.exactlyOnceBatch &&
    opened.forget && { settings: opened.exactlyOnceBatch.settings, measure: measure(opened, database) }
}
