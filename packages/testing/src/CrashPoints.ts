/**
 * A process of yours that crashes before and after each durable step that it
 * takes, in turn, and is started again.
 *
 * {@link enumerate} runs a flow once, to see which steps it takes, and then once
 * for each moment before and after one of them: there the process ends, as by
 * `kill -9`, and another one runs the flow from the beginning. What must hold in
 * the end is yours to check. Where they are few, each pair of moments is tried:
 * the second crash hits the recovery of the first.
 *
 * A durable step is what a store remembers:
 *
 * - in memory, each operation at the store of `Surety.layerMemory`: a claim, the
 *   begin and the commit of a message's transaction, a settlement, a publish.
 * - on PostgreSQL, each statement that reaches the server over a client made with
 *   {@link stream}, `COMMIT` among them.
 * - whatever a flow marks as one with {@link step}.
 *
 * **Example**
 *
 * ```ts
 * it.effect("handles each payment once, wherever it crashes", () =>
 *   CrashPoints.enumerate({
 *     process: Surety.layerMemory,
 *     flow: ({ id }) =>
 *       Effect.andThen(Producer.publish(Payments, { id }), Layer.build(Ledger)),
 *     settled: () => untilSettled(Payments, "ledger"),
 *     check: ({ id }) => Effect.sync(() => assert.strictEqual(bookings.get(id), 1))
 *   })
 * )
 * ```
 *
 * Known limits: exhaustive over the steps that the runs of one flow take, one
 * crash in each, or two; not over what other processes do meanwhile, nor over
 * interleavings: `Simulation` is for those. A moment is known by its name, and by
 * how often that has come before, so that steps which a flow takes concurrently
 * may come in another order from run to run; the report names the moments that a
 * run did not come to. A crash loses what the process holds in memory, and
 * nothing that the store has acknowledged.
 *
 * @since 0.1.0
 */
import type { Duplex } from "node:stream"
import { Interference } from "@surety/core/Interference"
import * as MemoryStore from "@surety/core/MemoryStore"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import type * as TestClock from "effect/testing/TestClock"
import { Life } from "./internal/crash/life.ts"
import { failedAt } from "./internal/failedAt.ts"
import { addressOf, Connection } from "./internal/wire/connection.ts"
import type { PointFailed } from "./PointFailed.ts"

export {
  /**
   * The flow failed, or a check did, after a crash at one moment.
   *
   * @category errors
   * @since 0.1.0
   */
  PointFailed
} from "./PointFailed.ts"

/**
 * The process whose steps are counted. Opaque.
 *
 * @category services
 * @since 0.1.0
 */
export class Process extends Context.Service<Process, Life>()("@surety/testing/CrashPoints/Process") {}

/**
 * Opens connections that end with the process: the `stream` option of
 * `PgClient`. Give the client the same URL, for its credentials.
 *
 * **Example**
 *
 * ```ts
 * const Client = PgClient.layerFrom(
 *   Effect.flatMap(CrashPoints.stream(url), (stream) => PgClient.make({ url, stream }))
 * )
 * ```
 *
 * @category processes
 * @since 0.1.0
 */
export const stream = (url: Redacted.Redacted): Effect.Effect<() => Duplex, never, Process> =>
  Effect.map(Process, (life) => {
    const address = addressOf(Redacted.value(url))
    return () => new Connection(address, life.watcher, life.connections)
  })

/**
 * Marks a durable step at a store of your own: the process may crash before it,
 * and after it has succeeded. It has the same name in each run, and so nothing of
 * the run's `id` in it.
 *
 * @category processes
 * @since 0.1.0
 */
export const step =
  (name: string) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R | Process> =>
    Effect.flatMap(Process, (life) => life.step(name, effect))

/**
 * One run of a flow, through its crashes and its recovery.
 *
 * @category models
 * @since 0.1.0
 */
export interface Run {
  /** Another one for each run. The flow that is started again after a crash is given the same one. */
  readonly id: string
}

/**
 * Options of {@link enumerate}.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<World, Services, RWorld, RProcess, RFlow, RSettled, RDown, RCheck> {
  /** What outlives the processes; built once. Default: the in-memory store. */
  readonly world?: Layer.Layer<World, unknown, RWorld> | undefined
  /** The layers of one process; built for each one. */
  readonly process: Layer.Layer<Services, unknown, RProcess>
  /**
   * What a process does, from its start: it may leave consumers running in its
   * scope. After a crash the next one does it again: with the ids of the run, a
   * publish is then a repeated one.
   */
  readonly flow: (run: Run) => Effect.Effect<unknown, unknown, RFlow>
  /**
   * Waited for after the flow, by another process: completes once the work is
   * done. Then the process is stopped, in order.
   */
  readonly settled?: ((run: Run) => Effect.Effect<unknown, unknown, RSettled>) | undefined
  /** What happens while the process is down: time passes, its lease expires. */
  readonly down?: Effect.Effect<unknown, unknown, RDown> | undefined
  /** Fails where something is not as it has to be. Another process looks. */
  readonly check: (run: Run) => Effect.Effect<unknown, unknown, RCheck>
  /** The moments at which to crash first, by name: to repeat one that failed. Default: all. */
  readonly at?: ((moment: string) => boolean) | undefined
  /** Each pair of moments is tried where there are so many at the most. Default 400. */
  readonly pairs?: number | undefined
}

/**
 * What was tried.
 *
 * @category models
 * @since 0.1.0
 */
export interface Report {
  /** The moments of the run without a crash, in their order: those that were asked for. */
  readonly moments: ReadonlyArray<string>
  /** How many single crashes were tried. */
  readonly points: number
  /** How many pairs; 0 where they are more than `pairs`. */
  readonly pairs: number
  /** Moments of the run without a crash to which the run that was to crash there did not come. */
  readonly missed: ReadonlyArray<string>
}

/** Under a test's clock time passes whenever nothing else goes on. */
const whileTimePasses = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(Clock.Clock, (clock) => {
    if (!("adjust" in clock)) return effect
    const passing = Effect.forever((clock as TestClock.TestClock).adjust("1 second"))
    return Effect.acquireUseRelease(
      Effect.forkDetach(passing),
      () => effect,
      (fiber) => Fiber.interrupt(fiber)
    )
  })

/**
 * Crashes a process at each moment before and after a durable step of its flow,
 * in turn, and at each pair of moments where they are few, and checks after each
 * recovery.
 *
 * **Details**
 *
 * The steps that are counted begin when the layers of the process are built, and
 * end when it has been stopped in order. The runs share the world: what they
 * make is to be named after the run's `id`. Under `TestClock` time passes by
 * itself. Fails with the first run that fails, and with the moments at which its
 * processes have crashed.
 *
 * @category running
 * @since 0.1.0
 */
export const enumerate = <
  Services,
  World = MemoryStore.MemoryStore,
  RWorld = never,
  RProcess = never,
  RFlow = never,
  RSettled = never,
  RDown = never,
  RCheck = never
>(
  options: Options<World, Services, RWorld, RProcess, RFlow, RSettled, RDown, RCheck>
): Effect.Effect<
  Report,
  PointFailed,
  | RWorld
  | Exclude<RProcess, World | Process>
  | Exclude<RFlow, World | Services | Process | Scope.Scope>
  | Exclude<RSettled | RDown | RCheck, World | Services>
> =>
  Effect.gen(function* () {
    const memoMap = yield* Layer.makeMemoMap
    const scope = yield* Effect.scope
    const outside = failedAt(() => "before the first run")
    const world = yield* outside(
      Layer.buildWithMemoMap((options.world ?? MemoryStore.layer) as Layer.Layer<any, unknown, any>, memoMap, scope)
    )
    const built = (life: Life, own: Scope.Scope) =>
      Layer.buildWithMemoMap(options.process, Layer.forkMemoMapUnsafe(memoMap), own).pipe(
        Effect.map(Context.merge(world)),
        Effect.map(Context.add(Process, life)),
        Effect.provideContext(Context.add(world, Process, life)),
        Effect.provideService(MemoryStore.Node, life.node),
        Effect.provideService(Interference, life.around)
      )
    const observer = yield* outside(built(new Life(), scope))
    const observed = <R>(effect: Effect.Effect<unknown, unknown, R>) =>
      Effect.provideContext(effect, observer as Context.Context<any>)

    /** A process, until its work is done or it has crashed. */
    const live = (run: Run, at: string | undefined) =>
      Effect.gen(function* () {
        const life = new Life(at)
        const own = yield* Scope.make()
        const work = Effect.gen(function* () {
          const context = yield* built(life, own)
          yield* life.begin
          yield* Effect.provideContext(options.flow(run), Context.add(context, Scope.Scope, own))
          if (options.settled !== undefined) yield* observed(options.settled(run))
          yield* Scope.close(own, Exit.void)
        })
        const working = yield* Effect.forkIn(work, scope)
        yield* Effect.raceFirst(Fiber.await(working), life.ended)
        // What a dead process does to end in order reaches nothing, and nobody waits for it.
        if (!life.node.alive) {
          yield* Effect.forkIn(Effect.andThen(Fiber.interrupt(working), Scope.close(own, Exit.void)), scope)
          return life
        }
        const exit = yield* Fiber.await(working)
        yield* Scope.close(own, exit)
        yield* exit
        return life
      })

    let runs = 0
    /** One process after the other: each but the last crashes, at the moment that is given for it, if it comes to it. */
    const attempt = (crashes: ReadonlyArray<string>) => {
      const run: Run = { id: `run-${++runs}` }
      const lives: Array<Life> = []
      const name = () => {
        const crashed = lives.filter(({ node }) => !node.alive).map(({ moments }) => moments.at(-1))
        return crashed.length === 0 ? "without a crash" : `a crash ${crashed.join(", then a crash ")}`
      }
      return Effect.gen(function* () {
        for (const at of [...crashes, undefined]) {
          const life = yield* live(run, at)
          lives.push(life)
          if (life.node.alive) break
          if (options.down !== undefined) yield* observed(options.down)
        }
        yield* observed(options.check(run))
        return lives
      }).pipe(failedAt(name))
    }
    /** Crashes at each of these moments, after the crash that is given: the moments of each recovery. */
    const each = Effect.fnUntraced(function* (earlier: ReadonlyArray<string>, moments: ReadonlyArray<string>) {
      const recoveries = new Map<string, ReadonlyArray<string>>()
      for (const at of moments) {
        const recovery = (yield* attempt([...earlier, at]))[earlier.length + 1]
        if (recovery !== undefined) recoveries.set(at, recovery.moments)
      }
      return recoveries
    })

    const [first] = yield* attempt([])
    const moments = first!.moments.filter(options.at ?? (() => true))
    const singles = yield* each([], moments)
    let pairs = 0
    if (Array.from(singles.values()).reduce((total, { length }) => total + length, 0) <= (options.pairs ?? 400)) {
      for (const [at, recovery] of singles) pairs += (yield* each([at], recovery)).size
    }
    return { moments, points: singles.size, pairs, missed: moments.filter((moment) => !singles.has(moment)) }
  }).pipe(whileTimePasses, Effect.scoped) as Effect.Effect<Report, PointFailed, any>
