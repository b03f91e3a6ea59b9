/**
 * The transport conformance suite: what every transport of Surety must do, as a
 * function that registers its tests for one backend.
 *
 * The suite runs producers and consumers of all guarantees on several nodes of
 * one store: it cuts nodes off, crashes them, stops them, moves partitions,
 * and checks after each test every invariant of `History` over what was
 * recorded. It waits for events and for quiescence, never for a fixed time.
 *
 * **Example**
 *
 * ```ts
 * import * as TransportTest from "@surety/testing/TransportTest"
 *
 * TransportTest.suite("memory", TransportTest.memory())
 * ```
 *
 * Known limits: a passing suite is evidence and no proof. What is a backend's own
 * (connections cut at each message of its protocol, say) is tested elsewhere, and
 * so is the transport's behaviour over days.
 *
 * @since 0.1.0
 */
import { describe, it } from "@effect/vitest"
import type { partitionOf } from "@surety/core/Backend"
import type { DelayedDelivery } from "@surety/core/DelayedDelivery"
import type * as Surety from "@surety/core/Surety"
import type { Transaction } from "@surety/core/Transaction"
import * as Transport from "@surety/core/Transport"
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Harness from "./internal/suite/harness.ts"
import { NeverHappened, Violated } from "./internal/suite/model.ts"
import type { Scenario } from "./internal/suite/scenario.ts"
import { crashScenarios, scenarios } from "./internal/suite/scenarios.ts"

export {
  /**
   * The in-memory backend, under a virtual clock. `parts` replaces the services
   * that the guarantees are made of.
   *
   * @category backends
   * @since 0.1.0
   */
  memory
} from "./internal/suite/memory.ts"

/**
 * What a backend provides on each node. Delayed delivery is tested where it is
 * provided as well.
 *
 * @category models
 * @since 0.1.0
 */
export type Services = Exclude<Surety.Services, DelayedDelivery>

/**
 * A row that a handler of the suite writes: one step of one of its runs.
 *
 * @category models
 * @since 0.1.0
 */
export interface Row {
  readonly topic: string
  readonly group: string
  readonly id: string
  readonly run: number
  readonly step: number
}

/**
 * One process on the store, with connections of its own.
 *
 * @category models
 * @since 0.1.0
 */
export interface Node {
  readonly services: Context.Context<Services>
  /** Writes a row in the transaction of the calling handler, as a user's handler would. Fails as its client fails. */
  readonly apply: (row: Row) => Effect.Effect<void, unknown, Transaction>
  /**
   * From now on nothing that the node does reaches the store; the node itself
   * goes on. `lost`: its connections break, and are refused, as they are when
   * its process is killed or the network fails. `frozen`: nothing comes through
   * and nothing breaks, as when its process is stopped, so that what it has open
   * in the store stays open. The same thing where the store knows no difference.
   */
  readonly disconnect: (how: "lost" | "frozen") => Effect.Effect<void>
  /** Ends the disconnection. What was lost stays lost. */
  readonly reconnect: Effect.Effect<void>
}

/**
 * How many rows, or entries, a group of a topic has in the store beside the log,
 * the inbox and the dead letters.
 *
 * @category models
 * @since 0.1.0
 */
export interface Kept {
  /** Counts of attempts. */
  readonly attempts: number
  /** Records that are kept aside. */
  readonly redeliveries: number
  /** Entries of the inbox that are open again, because of a redrive. */
  readonly pending: number
  readonly members: number
  /** Partitions that a member holds a lease of. */
  readonly leases: number
  /** Records that are claimed and not settled. */
  readonly claimed: number
}

/**
 * What the suite needs to know of a transport: a store, and how to put nodes on
 * it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Backend<R = never> {
  /**
   * Whether the nodes take their time from Effect's `Clock`, which the suite then
   * advances, or from somewhere else, for which it must wait.
   */
  readonly time: "virtual" | "real"
  /** How long a silent node keeps its partitions. Short, in real time. */
  readonly lease: Duration.Input
  /** The store that all nodes share, and whatever reads its rows. Built once for the suite. */
  readonly store: Layer.Layer<R, unknown>
  /** Puts a node on the store. Closing the scope ends it in order. */
  readonly node: (name: string) => Effect.Effect<Node, unknown, R | Scope.Scope>
  /** All committed rows of a topic, in the order in which they were written. */
  readonly effects: (topic: string) => Effect.Effect<ReadonlyArray<Row>, unknown, R>
  /** The partition of a record. Default: that of `Backend.partitionOf` of core. */
  readonly partitionOf?: typeof partitionOf | undefined
  /** What is kept of a group. What needs to know is not asserted without it. */
  readonly kept?: ((topic: string, group: string) => Effect.Effect<Kept, unknown, R>) | undefined
  /** Where the store can crash. What its crash must not lose is not asserted without it. */
  readonly crashing?:
    | {
        /** Of its own: no other test shares it. */
        readonly store: Layer.Layer<R, unknown>
        /** Ends the store without warning, starts it again, and returns once it answers. */
        readonly crash: Effect.Effect<void, unknown, R>
      }
    | undefined
}

/**
 * Registers the suite's tests for a backend.
 *
 * **Details**
 *
 * Each test has topics of its own, so that they can share a store. What a
 * transport does not offer is skipped, with the reason: transactions, where its
 * characteristics say so, durable redelivery, where its assignments have none,
 * delayed delivery, where a node's services have none; what a group keeps in
 * the store, where the backend does not tell; and a crash of the store, where it
 * has none that could be survived. `timeout` bounds each test: 30 seconds by default. In real time the
 * tests run concurrently.
 *
 * @category suites
 * @since 0.1.0
 */
export const suite = <R>(
  name: string,
  backend: Backend<R>,
  options?: { readonly timeout?: Duration.Input | undefined }
): void => {
  const timeout = Duration.toMillis(Duration.fromInputUnsafe(options?.timeout ?? "30 seconds"))
  const suiteOn = (
    name: string,
    store: Layer.Layer<R, unknown>,
    sections: Readonly<Record<string, ReadonlyArray<Scenario>>>,
    concurrent: boolean
  ) =>
    it.layer(store, { timeout, concurrent, excludeTestServices: backend.time === "real" })(name, (it) => {
      for (const [section, tests] of Object.entries(sections)) {
        describe(section, () => {
          for (const scenario of tests) {
            it.effect(
              scenario.name,
              (context) =>
                Effect.gen(function* () {
                  const harness = yield* Harness.make(backend, (reason) => context.skip(reason))
                  const missing = yield* missingFor(scenario, harness, backend)
                  if (missing !== undefined) return yield* harness.skip(missing)
                  yield* scenario.run(harness)
                }),
              timeout
            )
          }
        })
      }
    })
  // In real time most of a test is waiting for a lease to expire: they wait together.
  suiteOn(`TransportTest (${name})`, backend.store, scenarios, backend.time === "real")
  const crashed = backend.crashing?.store ?? backend.store
  suiteOn(`TransportTest (${name}), of a store that crashes`, crashed, crashScenarios, false)
}

/** Why a test is skipped: what the transport lacks that it needs. */
const missingFor = Effect.fnUntraced(function* <R>(
  { needsCrash, needsTransactions }: Scenario,
  harness: Harness.Harness,
  { crashing }: Backend<R>
) {
  if (needsTransactions !== true && needsCrash !== true) return undefined
  const node = yield* harness.start
  const { durable, name, transactional } = (yield* node.run(Transport.Transport)).characteristics
  if (needsTransactions === true && !transactional) return `the ${name} transport has no transactions`
  if (needsCrash !== true || crashing !== undefined) return undefined
  return `the backend has no store that crashes and is survived (the ${name} transport is durable: ${durable})`
})

/**
 * Runs one test of the suite, and returns the invariants that it finds violated:
 * none where it passes.
 *
 * **When to use**
 *
 * To show that the suite would notice: with a backend that lacks a protection.
 *
 * **Details**
 *
 * `tries` is how often a condition that is waited for is looked at; in real time
 * every 20 milliseconds. A test that fails otherwise than by an invariant fails.
 *
 * @category suites
 * @since 0.1.0
 */
export const violated = <R>(
  backend: Backend<R>,
  name: string,
  options?: { readonly tries?: number | undefined }
): Effect.Effect<ReadonlySet<number>, unknown, R> =>
  Effect.gen(function* () {
    const scenario = Object.values({ ...scenarios, ...crashScenarios })
      .flat()
      .find((scenario) => scenario.name === name)
    if (scenario === undefined) return yield* Effect.die(new Error(`the suite has no test "${name}"`))
    const skip = (reason: string): never => {
      throw new Error(`skipped: ${reason}`)
    }
    const harness = yield* Harness.make(backend, skip, options?.tries)
    const exit = yield* Effect.exit(scenario.run(harness))
    if (Exit.isSuccess(exit)) return new Set<number>()
    const error = Cause.squash(exit.cause)
    if (error instanceof Violated || error instanceof NeverHappened) {
      return new Set(error.violations.map(({ invariant }) => invariant))
    }
    return yield* Effect.failCause(exit.cause)
  }).pipe(Effect.scoped)
