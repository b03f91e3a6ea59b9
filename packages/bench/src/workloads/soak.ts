import { Effect } from "effect"
import * as Business from "../business.ts"
import * as Message from "../message.ts"
import { deadRows, megabytes } from "../sizes.ts"
import type { Database, Opened } from "../system.ts"
import { perSecond } from "../timing.ts"
import { itself, type Row, type Size, type Workload, Wrong } from "../workload.ts"

/** Published and not handled yet, at most. */
const maxLag = 20_000
const chunk = 1000

const row = (suffix: string, title: string, unit: Row["unit"], better: Row["better"], bars: Row["bars"] = []): Row => ({
  suffix,
  title: `published, handled set-based and forgotten at the same time: ${title}`,
  unit,
  better,
  bars
})

const measure = Effect.fnUntraced(function* (opened: Opened, database: Database, size: Size) {
  const { exactlyOnceBatch, forget, tables } = opened
  const messages = Message.make(size.quick ? 100_000 : 3_000_000)
  const { consume, fill } = yield* exactlyOnceBatch!.begin
  yield* forget!
  let handled = 0
  yield* consume({ begins: () => {}, handled: () => void handled++ })
  const times = [performance.now()]
  for (let sent = 0; handled < messages.length; ) {
    if (sent < messages.length && sent - handled < maxLag) {
      yield* fill(messages.slice(sent, sent + chunk))
      sent += chunk
    } else {
      yield* Effect.sleep("2 millis")
    }
    if (handled >= (messages.length / 10) * times.length) times.push(performance.now())
  }
  yield* Business.untilApplied(database.sql, messages.length)
  const wrong = yield* Business.wrongAccounts(database.sql, messages)
  if (wrong.length > 0) return yield* new Wrong({ detail: `lost, or applied twice: on ${wrong.length} accounts` })
  const share = (times[1]! - times[0]!) / (times[10]! - times[9]!)
  return [
    perSecond(messages.length, times[10]! - times[0]!),
    share,
    yield* megabytes(database, tables),
    yield* deadRows(database)
  ]
})

/** A day's load in minutes: how the tables do under autovacuum as the server has it by default. */
export const soak: Workload = {
  name: "soak",
  named: true,
  once: true,
  of: "ours",
  rows: [
    row("rate", "throughput", "messages/s", "more"),
    row("last-tenth", "throughput of the last tenth, as a share of the first", "×", "more", [itself("least", 0.9)]),
    row("size", "log, inbox and attempts at the end", "MB", "less"),
    row("dead", "dead rows at the end", "rows", "less")
  ],
  run: (opened, database, size) =>
    opened.exactlyOnceBatch &&
    opened.forget && { settings: opened.exactlyOnceBatch.settings, measure: measure(opened, database, size) }
}
