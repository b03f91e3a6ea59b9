/** One run: real processes on real input, and the truth to compare with. */
import { randomBytes } from "node:crypto"
import { NodeHttpClient } from "@effect/platform-node"
import { Consumer, DeadLetters } from "@surety/core"
import * as TestPostgres from "@surety/testing/TestPostgres"
import { Clock, Console, Effect, Layer, Redacted, Schema, Stream } from "effect"
import { audit, counterMap, isFine, type Outcome } from "./audit.ts"
import * as Database from "./database.ts"
import * as Input from "./deliveries.ts"
import { group } from "./handler.ts"
import type { Options } from "./options.ts"
import { killWorkers, startReceiver, startWorkers } from "./processes.ts"
import * as ProgressBar from "./progressBar.ts"
import * as Report from "./report.ts"
import { send } from "./sender.ts"
import { patience, settled } from "./settled.ts"
import * as Tables from "./tables.ts"
import * as Tally from "./tally.ts"
import { Deliveries, Summaries } from "./topics.ts"

/** Something was lost, or applied twice, or is not as it had to be: the report says what. */
export class NotFine extends Schema.TaggedError<NotFine>()("NotFine", {}) {}

/** Collects the delivery of each summary message, by its place in the log: read twice, it counts once. */
const collectSummaries = (found: Map<string, string>) =>
  Consumer.make(Summaries, {
    group: "audit",
    handler: (summary, { offset, partition }) =>
      Effect.sync(() => found.set(`${partition}/${offset}`, summary.delivery))
  }).pipe(Consumer.layer)

const countBy = <A>(values: Iterable<A>, key: (value: A) => string): ReadonlyMap<string, number> => {
  const counts = new Map<string, number>()
  for (const value of values) counts.set(key(value), (counts.get(key(value)) ?? 0) + 1)
  return counts
}

/** What the database holds, once everything is settled. */
const outcome = Effect.fnUntraced(function* (summaries: ReadonlyMap<string, string>) {
  const deadLetters = yield* DeadLetters.DeadLetters
  const applied = yield* Tables.applied
  return {
    applied: new Map(applied.map(({ delivery, times }) => [delivery, times])),
    summaries: countBy(summaries.values(), (delivery) => delivery),
    counters: counterMap(yield* Tables.counters),
    deadLetters: yield* Stream.runCollect(deadLetters.list({ topic: Deliveries.name, group }))
  } satisfies Outcome
})

const program = Effect.fnUntraced(function* (options: Options, url: Redacted.Redacted) {
  const deliveries = Input.make(options.deliveries)
  const plan = Input.plan(deliveries)
  const truth = Input.truth(deliveries)
  const tally = yield* Tally.make
  const summaries = new Map<string, string>()
  const secret = Redacted.make(randomBytes(32).toString("hex"))
  const env = { DATABASE_URL: url, WEBHOOK_SECRET: secret, WEBHOOK_INBOX: String(!options.withoutInbox) }

  yield* Tables.create
  const workers = yield* startWorkers(options.workers, env, tally)
  yield* Effect.forkScoped(
    ProgressBar.show(() => ({
      done: tally.latencies.length,
      total: options.deliveries,
      text: `${tally.sent} requests sent, ${tally.latencies.length} deliveries applied, ${tally.kills} workers killed`
    }))
  )

  // The receiver ends with this scope: nothing is accepted any more when everything that was is waited for.
  const sending = Effect.scoped(
    Effect.gen(function* () {
      const receiver = yield* startReceiver(env)
      const start = yield* Clock.currentTimeMillis
      yield* send(plan, { url: receiver.url, secret, tally, patience: yield* patience }).pipe(
        Effect.raceFirst(receiver.failed)
      )
      return start
    })
  )
  const killing = killWorkers(workers, { kills: options.kills, steps: plan.length, tally })
  const working = Effect.gen(function* () {
    const [start] = yield* Effect.all([sending, killing], { concurrency: "unbounded" })
    yield* settled(Deliveries, group)
    return (yield* Clock.currentTimeMillis) - start
  })
  const millis = yield* Effect.raceFirst(working, workers.failed)

  yield* Effect.scoped(Effect.andThen(Layer.build(collectSummaries(summaries)), settled(Summaries, "audit")))
  return {
    ...audit(truth, tally, yield* outcome(summaries)),
    sent: tally.sent,
    kills: tally.kills,
    seconds: millis / 1000,
    latencies: tally.latencies
  } satisfies Report.Report
}, Effect.scoped)

/** Fails when anything was lost or applied twice. */
export const run = Effect.fn("Webhooks.run")(function* (options: Options) {
  const { events, payloads } = Input.documented
  yield* Console.error(
    `${options.deliveries} deliveries, made of the ${payloads} payloads of ${events} events that GitHub documents.`
  )
  const { url } = yield* TestPostgres.TestPostgres
  const report = yield* program(options, url).pipe(Effect.provide([Database.layer(url), NodeHttpClient.layerUndici]))
  yield* Console.log(Report.table(report, options))
  if (options.json) yield* Console.log(Report.json(report))
  if (!isFine(report)) return yield* new NotFine()
}, Effect.provide(TestPostgres.layer))
