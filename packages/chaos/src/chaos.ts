/** One run: publishers and workers under faults, then calm, and what came of every entry. */
import * as PgClient from "@effect/sql-pg/PgClient"
import { Consumer, DeadLetters, Transport } from "@surety/core"
import * as TestPostgres from "@surety/testing/TestPostgres"
import { Clock, Console, Effect, Layer, Option, Redacted, Schedule, Schema, Stream } from "effect"
import { type Counts, counts, type Found } from "./counts.ts"
import * as Faults from "./faults.ts"
import type { Options } from "./flags.ts"
import * as Fleet from "./fleet.ts"
import * as Ledger from "./ledger.ts"
import { Assignment, decode } from "./lines.ts"
import { Entries, group, Receipts } from "./messages.ts"
import type { ChaosTransport, Server } from "./transport.ts"
import { transports } from "./transports/index.ts"

const accountsOf = (publisher: number) => Array.from({ length: 8 }, (_, index) => publisher * 8 + index)

/** What the publishers have said. */
class Journal {
  readonly attempted = new Set<string>()
  readonly acknowledged = new Set<string>()
  readonly failed = new Set<string>()
  readonly #next = new Map<number, number>()

  read(text: string): void {
    const line = decode(text)
    // A process that was killed may leave the beginning of a line.
    if (Option.isNone(line)) return
    const [what, account, n] = line.value
    const id = `${account}:${n}`
    if (what === "attempt") {
      this.attempted.add(id)
      this.#next.set(account, n + 1)
    } else if (what === "acknowledged") this.acknowledged.add(id)
    else if (what === "failed") this.failed.add(id)
  }

  /** Where a new publisher goes on. */
  assignment(publisher: number): string {
    return Schema.encodeSync(Assignment)(
      accountsOf(publisher).map((account) => [account, this.#next.get(account) ?? 1])
    )
  }
}

export interface Report {
  readonly options: Options
  readonly seconds: number
  readonly counts: Counts
  readonly faults: Readonly<Record<string, number>>
  /** How many processes were started, the first ones included. */
  readonly processes: { readonly workers: number; readonly publishers: number }
}

/** How long it may take, once there are no faults, until everything is settled (invariant 19). */
const patience = "60 seconds"

/** Waits until nothing is left, and returns what is when its time is over. */
const remaining = Effect.fnUntraced(function* <E, R>(ask: Effect.Effect<number, E, R>) {
  // As long as the store has not told, something may be left.
  let left = 1
  yield* Ledger.persistently(
    Effect.map(ask, (count) => {
      left = count
      return count
    })
  ).pipe(
    Effect.repeat({ until: (count) => count === 0, schedule: Schedule.spaced("200 millis") }),
    Effect.timeoutOption(patience)
  )
  return left
})

/** How much of what can be read a group has not settled in the end. */
const unsettled = (topic: string, of: string) =>
  Effect.flatMap(Transport.Transport, (transport) =>
    remaining(
      Effect.map(transport.progress(topic, of), (partitions) => partitions.reduce((total, { lag }) => total + lag, 0))
    )
  )

/** Reads the receipts, by their places in the log. */
const readReceipts = Effect.fnUntraced(function* (repeated: boolean) {
  const places = new Map<string, string>()
  const reader = Consumer.make(Receipts, {
    group: "audit",
    handler: (id, { offset, partition }) => Effect.sync(() => places.set(`${partition}/${offset}`, id))
  })
  const left = yield* Effect.provide(unsettled(Receipts.name, "audit"), Consumer.layer(reader))
  const receipts = new Map<string, number>()
  for (const id of places.values()) receipts.set(id, repeated ? 1 : (receipts.get(id) ?? 0) + 1)
  return { left, receipts }
})

const find = Effect.fnUntraced(function* ({ repeatsReceipts, unsent }: ChaosTransport) {
  const left = (yield* unsettled(Entries.name, group)) + (yield* remaining(unsent))
  const receipts = yield* readReceipts(repeatsReceipts)
  const { disordered, unbalanced } = yield* Ledger.look
  const letters = yield* DeadLetters.DeadLetters
  const dead = yield* Stream.runCollect(letters.list({ topic: Entries.name, group }))
  return {
    booked: yield* Ledger.booked,
    receipts: receipts.receipts,
    dead: new Set(dead.map(({ record }) => record.id)),
    disordered,
    unbalanced,
    unsettled: left + receipts.left
  } satisfies Found
})

/** Fails as soon as something is seen that cannot be mended. */
const watch = (journal: Journal) =>
  Effect.gen(function* () {
    yield* Effect.sleep("3 seconds")
    const { disordered, twice, unbalanced } = yield* Ledger.look
    return twice.length > 0 || unbalanced.length > 0 || disordered.some((id) => journal.acknowledged.has(id))
  }).pipe(Effect.repeat({ until: (broken) => broken }))

const faultsText = (inflicted: ReadonlyMap<string, number>) =>
  Array.from(inflicted, ([name, count]) => `${count} ${name}`).join(", ")

const underFaults = Effect.fnUntraced(function* (options: Options, url: Redacted.Redacted, server: Server) {
  const journal = new Journal()
  const env = {
    ...server.env,
    DATABASE_URL: Redacted.value(url),
    CHAOS_TRANSPORT: options.transport,
    CHAOS_INBOX: String(!options.withoutInbox)
  }
  const inflicted = new Map<string, number>()
  const workers = yield* Fleet.make("worker", options.workers, () => ({ env }))
  // A group that is registered before anything is published has to be given all of it.
  yield* Ledger.persistently(unsettled(Entries.name, group))
  const publishing = Effect.gen(function* () {
    const publishers = yield* Fleet.make("publisher", options.publishers, (slot) => ({
      env,
      args: [journal.assignment(slot)],
      onLine: (line) => journal.read(line)
    }))
    const faults = Faults.inflict(options.seed, { workers, publishers }, server, inflicted)
    const time = Effect.sleep(options.minutes * 60_000)
    const progress = Effect.suspend(() => {
      const { acknowledged, attempted } = journal
      return Console.error(`${attempted.size} attempted, ${acknowledged.size} acknowledged, ${faultsText(inflicted)}`)
    }).pipe(Effect.delay("10 seconds"), Effect.forever)
    yield* Effect.repeat(Effect.sleep("50 millis"), { until: () => journal.acknowledged.size > 0 })
    yield* Effect.raceAllFirst([time, watch(journal), faults, progress])
    return publishers.started()
  }).pipe(Effect.scoped)
  const publishers = yield* publishing
  yield* workers.thaw
  return {
    journal,
    found: yield* find(transports[options.transport]),
    faults: Object.fromEntries(inflicted),
    processes: { workers: workers.started(), publishers }
  }
})

export const run = Effect.fnUntraced(function* (options: Options) {
  const { createDatabase } = yield* TestPostgres.TestPostgres
  const { url } = yield* createDatabase()
  const began = yield* Clock.currentTimeMillis
  yield* Console.error(`Seed ${options.seed}: ${options.minutes} minutes of faults.`)
  const transport = transports[options.transport]
  const server = yield* transport.start(url)
  const layer = transport
    .layer("observer", server.env)
    .pipe(Layer.provideMerge(PgClient.layer({ url, applicationName: "chaos" })))
  return yield* Effect.gen(function* () {
    yield* Ledger.create(options.publishers * 8)
    const { faults, found, journal, processes } = yield* underFaults(options, url, server)
    const seconds = ((yield* Clock.currentTimeMillis) - began) / 1000
    return { options, seconds, counts: counts(journal, found), faults, processes } satisfies Report
  }).pipe(Effect.provide(layer))
}, Effect.scoped)
