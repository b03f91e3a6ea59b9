import { Effect, Schedule } from "effect"
import * as Business from "../business.ts"
import * as Message from "../message.ts"
import type { Database, Part, Processes, WorkerProcess } from "../system.ts"
import { perSecond, timed, until } from "../timing.ts"
import { itself, type Row, type Size, type Workload, Wrong } from "../workload.ts"

const counts = [1, 2, 4, 8]
const patience = "2 minutes"

const throughput = (count: number): Row => ({
  suffix: String(count),
  title: `exactly-once, one awaited UPDATE per message, ${count} worker processes, from when they are published`,
  unit: "messages/s",
  better: "more",
  bars: []
})

const untilPatiently = <E, R>(effect: Effect.Effect<boolean, E, R>) => Effect.timeout(until(effect), patience)

/** Starts workers, and waits until each has its share of the partitions. */
const start = Effect.fnUntraced(function* ({ partitions, spawn }: Processes, count: number) {
  const workers = yield* Effect.all(
    Array.from({ length: count }, () => spawn),
    { concurrency: 2 }
  )
  yield* Effect.all(workers.map(({ go }) => go))
  yield* untilPatiently(Effect.sync(() => workers.every(({ serving }) => serving.length === partitions / count)))
  return workers
})

/** How fast a backlog is applied, and what the busiest worker had of it for each message of the idlest. */
const measure = Effect.fnUntraced(function* (part: Part<Processes>, { sql }: Database, size: Size, count: number) {
  yield* Business.reset(sql)
  const messages = Message.make(size.messages)
  const processes = yield* part.begin
  const workers = yield* start(processes, count)
  const published = Effect.forEach(Message.chunksOf(messages, 1000), processes.publish, { discard: true })
  const applied = Effect.timeout(Business.untilApplied(sql, messages.length), patience)
  const millis = yield* timed(Effect.andThen(published, applied))
  const wrong = yield* Business.wrongAccounts(sql, messages)
  if (wrong.length > 0) return yield* new Wrong({ detail: `lost, or applied twice: on ${wrong.length} accounts` })
  yield* untilPatiently(Effect.sync(() => sum(workers) >= messages.length))
  const handled = workers.map((worker) => worker.handled)
  return { rate: perSecond(messages.length, millis), fairness: Math.min(...handled) / Math.max(...handled) }
}, Effect.scoped)

const sum = (workers: ReadonlyArray<WorkerProcess>) => workers.reduce((total, { handled }) => total + handled, 0)

/** Published and not handled yet, at most, while a worker is killed: what stands still is partitions, not a queue. */
const maxLag = 1000

/** For how many leases the partitions of a killed worker stand still, while messages keep coming. */
const takeover = Effect.fnUntraced(function* (part: Part<Processes>) {
  const processes = yield* part.begin
  const { leaseMillis, publish } = processes
  const workers = yield* start(processes, 2)
  const [dead, survivor] = workers as [WorkerProcess, WorkerProcess]
  const messages = Message.make(100)
  let sent = 0
  yield* Effect.suspend(() => {
    if (sent - sum(workers) >= maxLag) return Effect.void
    const next = messages.map((message) => ({ ...message, seq: sent + message.seq }))
    sent += next.length
    return publish(next)
  }).pipe(Effect.repeat(Schedule.spaced("20 millis")), Effect.forkScoped)
  yield* untilPatiently(Effect.sync(() => dead.latest.size > 0 && survivor.latest.size > 0))
  const taken = dead.serving
  const killed = performance.now()
  yield* dead.kill
  yield* untilPatiently(Effect.sync(() => taken.every((partition) => (survivor.latest.get(partition) ?? 0) > killed)))
  return (performance.now() - killed) / leaseMillis
}, Effect.scoped)

export const processes: Workload = {
  name: "processes",
  long: true,
  once: true,
  of: "ours",
  rows: [
    ...counts.map(throughput),
    {
      suffix: "fairness",
      title: `messages handled by the idlest of ${counts.at(-1)} processes, as a share of the busiest`,
      unit: "×",
      better: "more",
      bars: [itself("least", 0.01)]
    },
    {
      suffix: "takeover",
      title: "how long the partitions of a killed process stand still, in leases",
      unit: "×",
      better: "less",
      bars: [itself("most", 1)]
    }
  ],
  run: ({ processes }, database, size) =>
    processes && {
      settings: processes.settings,
      measure: Effect.gen(function* () {
        const measured = yield* Effect.forEach(counts, (count) => measure(processes, database, size, count))
        return [...measured.map(({ rate }) => rate), measured.at(-1)!.fairness, yield* takeover(processes)]
      })
    }
}
