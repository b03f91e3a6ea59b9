/** Runs the workloads on all systems, in turns on one server. */
import { Console, Effect } from "effect"
import * as Business from "./business.ts"
import { type Options, selects } from "./flags.ts"
import * as Progress from "./progress.ts"
import type { Failure, Line } from "./report.ts"
import * as Report from "./report.ts"
import * as Server from "./server.ts"
import type { Database, Opened, System } from "./system.ts"
import { rowName, type Size, type Workload } from "./workload.ts"

/** After a warm-up with a share of the messages, which is not counted. */
const repetitions = 3
const warmUpShare = 0.1

interface Contestant {
  readonly system: System
  readonly opened: Opened
  readonly database: Database
}

const open = Effect.fnUntraced(function* (system: System, kafka: string | undefined) {
  const database = { ...(yield* Server.createDatabase), kafka }
  return { system, database, opened: yield* system.open(database) } satisfies Contestant
})

/** Each run begins with empty tables, and without the garbage of the one before. */
const reset = Effect.fnUntraced(function* ({ database: { sql }, opened }: Contestant) {
  yield* Business.reset(sql)
  if (opened.tables.length > 0) yield* sql.unsafe(`TRUNCATE ${opened.tables.join(", ")}`)
  globalThis.gc?.()
})

const measure = Effect.fnUntraced(function* (
  workload: Workload,
  contestants: ReadonlyArray<Contestant>,
  size: Size,
  show: (text: string) => Effect.Effect<void>
) {
  const failures: Array<Failure> = []
  const taking = contestants.flatMap((contestant) => {
    const of = (size: Size) =>
      workload.on === contestant.system.on && (workload.of === undefined || workload.of === contestant.system.role)
        ? workload.run(contestant.opened, contestant.database, size)
        : undefined
    const run = of(size)
    const warmUp = of({ ...size, messages: size.messages * warmUpShare })
    if (run === undefined || warmUp === undefined) return []
    return [{ contestant, run, warmUp, values: [] as Array<ReadonlyArray<number>>, failed: false }]
  })
  const last = workload.once === true ? 0 : repetitions
  for (let repetition = 0; repetition <= last; repetition++) {
    for (const part of taking) {
      if (part.failed) continue
      const { name } = part.contestant.system
      const warmingUp = last > 0 && repetition === 0
      yield* show(`${workload.name}: ${name}, ${warmingUp ? "warming up" : `${repetition} of ${last}`}`)
      yield* reset(part.contestant).pipe(
        Effect.andThen((warmingUp ? part.warmUp : part.run).measure),
        Effect.scoped,
        Effect.tap((values) => Effect.sync(() => warmingUp || part.values.push(values))),
        Effect.catch((error) =>
          Effect.sync(() => {
            part.failed = true
            failures.push({ workload: workload.name, system: name, error })
          })
        )
      )
    }
  }
  const lines = workload.rows.map((row, index): Line => {
    const series = taking.flatMap(({ contestant: { system }, failed, run, values }) =>
      failed
        ? []
        : [{ system: system.name, role: system.role, settings: run.settings, values: values.map((run) => run[index]!) }]
    )
    return { workload: rowName(workload, row), row, series }
  })
  return { lines, failures }
})

/** Measures what was selected. A system that fails a workload has no place in its rows. */
export const run = Effect.fn("Bench.run")(function* (
  workloads: ReadonlyArray<Workload>,
  systems: ReadonlyArray<System>,
  options: Options
) {
  const server = yield* Server.durability
  const progress = yield* Progress.make
  const size = { messages: options.quick ? 2000 : 20_000, quick: options.quick }
  const selected = workloads.filter(({ long, name, named }) =>
    options.only.length > 0 ? selects(options.only, name) : named !== true && !(options.quick && long === true)
  )
  const needed = new Set(selected.map(({ on }) => on))
  const kafka = needed.has("kafka") ? yield* Server.startKafka : undefined
  const contestants: Array<Contestant> = []
  for (const system of systems) {
    if (!needed.has(system.on) || (options.system.length > 0 && !options.system.includes(system.name))) continue
    yield* progress.show(`${system.name}: opening`)
    contestants.push(yield* open(system, kafka))
  }
  const lines: Array<Line> = []
  const failures: Array<Failure> = []
  yield* progress.clear
  yield* Console.log(Report.heading({ server, messages: size.messages, repetitions }))
  for (const workload of selected) {
    const measured = yield* measure(workload, contestants, size, progress.show)
    lines.push(...measured.lines)
    failures.push(...measured.failures)
    yield* progress.clear
    // At once: a whole run takes long.
    yield* Console.log(Report.sections(measured.lines))
  }
  yield* Console.log(Report.ending(failures))
  return { lines, failures }
}, Effect.scoped)
