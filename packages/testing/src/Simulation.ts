/**
 * Simulation: an app as it stands, its own layers and handlers, on several
 * nodes over one store in memory, with everything that could be otherwise drawn
 * from a seed: which fiber runs next, how long each step takes, which faults
 * happen, and when. Time is virtual, and moves on when nothing can run. A seed
 * gives the same history every time, byte for byte.
 *
 * Each run has two phases. In the first, processes crash, freeze and are
 * stopped, connections break, replies are lost, handlers die and hang. In the
 * second nothing more goes wrong, and everything has to come to its end within
 * a stated time. Then the history is checked against the invariants of
 * `History`, and a run that violates one is reduced to the fewest faults,
 * messages and nodes that still do.
 *
 * **Example**
 *
 * ```ts
 * const balances = Table.make<number>("balances")
 *
 * Simulation.check(Ledger, {
 *   workload: payments.map((payment) => Producer.publish(Payments, payment)),
 *   expect: Effect.map(Table.get(balances, "alice"), (balance) => assert.strictEqual(balance, 20)),
 *   runs: 1000
 * })
 * ```
 *
 * Known limits: what a handler takes from elsewhere (`Date`, `Math.random`,
 * timers, the network, `Effect.runPromise`) is not held fast by the seed, and a
 * run that differs the second time is reported. The store is the in-memory
 * one, which draws offsets when records are written and lets them be read when
 * they have committed, as PostgreSQL does; its locks are those of the inbox and
 * of `Table`. Handlers reach no SQL: they write to `Table`, and
 * `MemoryStore.savepoint` is their inner transaction. A seed that passes is
 * evidence and no proof.
 *
 * @since 0.1.0
 */
import type * as MemoryStore from "@surety/core/MemoryStore"
import type * as Surety from "@surety/core/Surety"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as History from "./History.ts"
import { kinds } from "./internal/simulation/faults.ts"
import { toHtml } from "./internal/simulation/html.ts"
import type { Mutation } from "./internal/simulation/mutations.ts"
import { toText } from "./internal/simulation/report.ts"
import * as simulated from "./internal/simulation/run.ts"
import { shrink } from "./internal/simulation/shrink.ts"
import type { Tables } from "./Table.ts"

/**
 * What a simulation provides to the app, its workload and what is expected of
 * it: the services of `Surety.layerMemory`, and tables for handlers to write
 * to.
 *
 * @category models
 * @since 0.1.0
 */
export type Services = Surety.Services | Tables

/**
 * What can go wrong.
 *
 * - `crash`: a process ends, at a time or at a step of its work, before or after
 *   the store has done it. No finalizer runs. It is started again.
 * - `stop`: it is asked to end, drains, and is started again.
 * - `freeze`: it does nothing for a while, and then goes on as if nothing had
 *   been, perhaps after its lease has been given to another.
 * - `disconnect`: it goes on, and does not reach the store for a while.
 * - `refuse`, `lose-reply`, `delay`: a step at the store is not done, or is done
 *   and nobody told, or is late.
 * - `defect`, `hang`, `slow`: a handler dies, never returns, or takes its time.
 * - `skew`: the clock of a process is ahead of the store's, or behind, from then
 *   on.
 *
 * @category faults
 * @since 0.1.0
 */
export type FaultKind =
  | "crash"
  | "stop"
  | "freeze"
  | "disconnect"
  | "refuse"
  | "lose-reply"
  | "delay"
  | "defect"
  | "hang"
  | "slow"
  | "skew"

/**
 * The most faults of each kind that a run may have. Each run has a mixture of
 * its own, in which about half of the kinds are missing.
 *
 * @category faults
 * @since 0.1.0
 */
export type FaultRates = { readonly [K in FaultKind]?: number }

/**
 * A few of everything.
 *
 * @category faults
 * @since 0.1.0
 */
export const faults: FaultRates = {
  crash: 3,
  stop: 1,
  freeze: 2,
  disconnect: 1,
  refuse: 4,
  "lose-reply": 4,
  delay: 4,
  defect: 2,
  hang: 1,
  slow: 2,
  skew: 1
}

/**
 * Nothing goes wrong: what remains is the order in which things happen.
 *
 * @category faults
 * @since 0.1.0
 */
export const none: FaultRates = {}

/**
 * One fault of a run. It strikes at a time in milliseconds, or at the `nth`
 * operation of a name that its node asks of the store (`handler` for those of
 * its handlers), and lasts for so many milliseconds.
 *
 * @category models
 * @since 0.1.0
 */
export interface Fault {
  readonly kind: FaultKind
  readonly node: string
  readonly at:
    | { readonly time: number }
    | { readonly operation: string; readonly nth: number; readonly when: "before" | "after" }
  readonly millis: number
}

/**
 * What a run consists of, beside its seed: how many nodes, which steps of the
 * workload, by their places, and which faults.
 *
 * @category models
 * @since 0.1.0
 */
export interface Plan {
  readonly nodes: number
  readonly steps: ReadonlyArray<number>
  readonly faults: ReadonlyArray<Fault>
}

/**
 * A process: the number of its node, from 1, and how often that was started
 * before.
 *
 * @category models
 * @since 0.1.0
 */
export interface ProcessOf {
  readonly node: number
  readonly start: number
}

/**
 * What each node runs: consumers, as layers; the same everywhere, or by
 * process, where one deploys a new version.
 *
 * @category models
 * @since 0.1.0
 */
export type App =
  | Layer.Layer<never, unknown, Services>
  | ((process: ProcessOf) => Layer.Layer<never, unknown, Services>)

/**
 * How an app is simulated.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * What is done to the app from outside: publishes, mostly. Each client does
   * its share of the steps in their order. A step that fails is over; one that
   * dies is reported.
   */
  readonly workload: ReadonlyArray<Effect.Effect<unknown, unknown, Services>>
  /** Default {@link faults}. */
  readonly faults?: FaultRates | undefined
  /** What every history has to satisfy. Default `History.invariants`. */
  readonly invariants?: ReadonlyArray<(history: History.History) => ReadonlyArray<History.Violation>> | undefined
  /** Run once everything has come to its end: what it fails with, or dies of, is a violation. */
  readonly expect?: Effect.Effect<unknown, unknown, Services> | undefined
  /** How many processes run the app. Default 3. */
  readonly nodes?: number | undefined
  /** How many processes share the workload. Default 2. */
  readonly clients?: number | undefined
  /** How many seeds are run. Default 100. */
  readonly runs?: number | undefined
  /** The first of them. Default 1. */
  readonly seed?: number | undefined
  /** Seeds that are run before, such as those that have failed once. */
  readonly corpus?: ReadonlyArray<number> | undefined
  /** Runs each seed twice, and reports where the second history differs. Default true. */
  readonly twice?: boolean | undefined
  /** For how long faults happen, in virtual time. Default 10 seconds. */
  readonly during?: Duration.Input | undefined
  /**
   * How long it may take from then on until everything is over (invariant 19), the `handlerTimeout` of a handler that hangs
   * included. Default 15 minutes.
   */
  readonly within?: Duration.Input | undefined
  /** Of the in-memory store. The lease is 3 seconds by default. */
  readonly store?: MemoryStore.Options | undefined
  /** How often a failing run is repeated to make it smaller. Default 300. */
  readonly shrinks?: number | undefined
  /** How the failing seed is run again, for the report: a command, from the seed. */
  readonly replay?: ((seed: number) => string) | undefined
  /** @internal */
  readonly mutation?: Mutation | undefined
}

/**
 * A run, and what is wrong with it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Run {
  readonly seed: number
  readonly plan: Plan
  readonly history: History.History
  readonly violations: ReadonlyArray<History.Violation>
}

/**
 * What was found: a failing run, as small as it could be made.
 *
 * @category errors
 * @since 0.1.0
 */
export class SimulationFailed extends Data.TaggedError("SimulationFailed")<{
  /** The seed that has failed. */
  readonly seed: number
  /** Its seed is another one where less is needed to fail in another order of things. */
  readonly run: Run
  /** How many faults, steps and nodes the run had at first. */
  readonly before: Plan
  readonly replay: string
}> {
  override get message(): string {
    return toText(this)
  }

  /** A page to look at: a file of its own, that loads nothing. */
  get html(): string {
    return toHtml(this)
  }
}

/**
 * What was done.
 *
 * @category models
 * @since 0.1.0
 */
export interface Checked {
  readonly runs: number
  /** Events that were recorded, over all runs. */
  readonly events: number
  /** How often a fault of each kind was planned, over all runs. */
  readonly faults: { readonly [K in FaultKind]: number }
}

const setupOf = (app: App, options: Options): simulated.Setup => {
  const services = simulated.servicesOf(options.mutation)
  const over = (layer: Layer.Layer<never, unknown, Services>) => Layer.provideMerge(layer, services)
  const fixed = typeof app === "function" ? undefined : over(app)
  const lease = options.store?.lease ?? "3 seconds"
  return {
    app: (process) => (typeof app === "function" ? over(app(process)) : fixed!),
    services,
    workload: options.workload,
    expect: options.expect ?? Effect.void,
    invariants: options.invariants ?? History.invariants,
    nodes: options.nodes ?? 3,
    clients: options.clients ?? 2,
    store: { ...options.store, lease },
    lease: Duration.toMillis(Duration.fromInputUnsafe(lease)),
    rates: options.faults ?? faults,
    during: Duration.toMillis(Duration.fromInputUnsafe(options.during ?? "10 seconds")),
    within: Duration.toMillis(Duration.fromInputUnsafe(options.within ?? "15 minutes")),
    mutation: options.mutation
  }
}

const notReproducible = (run: Run, again: Run): Run => {
  const index = run.history.findIndex((event, index) => !isSame(event, again.history[index]))
  const from = index === -1 ? run.history.length : index
  return {
    ...run,
    violations: [
      {
        invariant: 23,
        name: "determinism",
        message:
          "the same seed gave another history: something in the app does not come from Effect's services (Date, Math.random, timers, a variable that outlives the run)",
        events: [...run.history.slice(from, from + 1), ...again.history.slice(from, from + 1)]
      }
    ]
  }
}

const isSame = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b)

/**
 * Runs one seed, with all that it draws or with the plan that is given.
 *
 * @category running
 * @since 0.1.0
 */
export const run = (
  app: App,
  options: Options & { readonly seed: number; readonly plan?: Plan | undefined }
): Effect.Effect<Run> => Effect.promise(() => simulated.run(setupOf(app, options), options.seed, options.plan))

/**
 * Runs seeds, and fails with the first that violates an invariant, made small.
 *
 * @category running
 * @since 0.1.0
 */
export const check = (app: App, options: Options): Effect.Effect<Checked, SimulationFailed> =>
  Effect.suspend(() => {
    const setup = setupOf(app, options)
    const first = options.seed ?? 1
    const seeds = [...(options.corpus ?? []), ...Array.from({ length: options.runs ?? 100 }, (_, n) => first + n)]
    const counts = Object.fromEntries(kinds.map((kind) => [kind, 0])) as { [K in FaultKind]: number }
    const replay = options.replay ?? ((seed) => `the same check with { seed: ${seed}, runs: 1 }`)
    let events = 0
    const attempt = async (seed: number): Promise<SimulationFailed | undefined> => {
      let found: Run = await simulated.run(setup, seed)
      events += found.history.length
      for (const { kind } of found.plan.faults) counts[kind]++
      const { plan } = found
      if (options.twice !== false) {
        const again = await simulated.run(setup, seed)
        if (!isSame(found.history, again.history)) found = notReproducible(found, again)
      }
      if (found.violations.length === 0) return undefined
      const small = found.violations.some(({ invariant }) => invariant === 23)
        ? found
        : await shrink(setup, found, options.shrinks ?? 300)
      return new SimulationFailed({ seed, run: small, before: plan, replay: replay(seed) })
    }
    return Effect.map(
      Effect.forEach(
        seeds,
        (seed) =>
          Effect.flatMap(
            Effect.promise(() => attempt(seed)),
            (failed) => (failed === undefined ? Effect.void : Effect.fail(failed))
          ),
        { discard: true }
      ),
      () => ({ runs: seeds.length, events, faults: counts })
    )
  })
