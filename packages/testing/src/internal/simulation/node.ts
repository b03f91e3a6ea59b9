/** A process of the simulation, its successors after a crash included, and what is done to it. */
import type { Around, Operation } from "@surety/core/Interference"
import { Interference } from "@surety/core/Interference"
import * as MemoryStore from "@surety/core/MemoryStore"
import { MessageId } from "@surety/core/MessageId"
import { OutcomeUnknown, TransportError, Unavailable } from "@surety/core/TransportError"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as References from "effect/References"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import type { Fault, Services } from "../../Simulation.ts"
import { Tables } from "../../Table.ts"
import { Elsewhere } from "./elsewhere.ts"
import { describe } from "./faults.ts"
import { Observed, type Recording } from "./observing.ts"
import type { Rng } from "./random.ts"
import { Process, type World } from "./world.ts"

/** What all nodes of a run share. */
export interface Shared {
  readonly world: World
  readonly recording: Recording
  readonly server: Process
  readonly memoMap: Layer.MemoMap
  readonly elsewhere: Layer.MemoMap
  readonly tables: Tables["Service"]
  readonly latency: () => number
  readonly program: Rng
  readonly nextId: () => string
  /** Whether faults are still to happen. */
  disturbing: boolean
}

/** What a process does: what it builds, and what runs in that. */
export interface Program {
  readonly layer: (start: number) => Layer.Layer<any, unknown, Tables>
  readonly main: Effect.Effect<unknown, unknown, Services>
}

interface Incarnation {
  readonly process: Process
  readonly connection: { alive: boolean }
  readonly observed: Observed
  readonly scope: Scope.Closeable
  readonly transactions: Set<MemoryStore.Transaction>
  main: Fiber.Fiber<unknown, unknown> | undefined
  stopping: boolean
}

export class Node {
  readonly name: string
  readonly #shared: Shared
  readonly #program: Program
  /** By operation and number. */
  readonly #faults = new Map<string, Array<Fault>>()
  readonly #counts = new Map<string, number>()
  #starts = 0
  #now: Incarnation | undefined
  /** What ran in it has ended, and was not cut short. */
  finished = false
  /** What is wrong with the program itself. */
  defect: unknown

  constructor(name: string, shared: Shared, program: Program, faults: ReadonlyArray<Fault>) {
    this.name = name
    this.#shared = shared
    this.#program = program
    for (const fault of faults) {
      const { at } = fault
      if ("time" in at) {
        shared.world.after(at.time, () => shared.server.schedule(() => this.#strike(fault)))
      } else {
        const key = `${at.operation}/${at.nth}`
        this.#faults.set(key, [...(this.#faults.get(key) ?? []), fault])
      }
    }
  }

  /** It runs, and reaches the store. */
  get isConnected(): boolean {
    const now = this.#now
    return now !== undefined && !now.stopping && now.process.state === "running" && now.connection.alive
  }

  get running(): number {
    return this.#now?.observed.running ?? 0
  }

  start(): void {
    const { elsewhere, latency: _, memoMap, program, recording, server, tables, world } = this.#shared
    const process = new Process(world)
    const now: Incarnation = {
      process,
      connection: { alive: true },
      observed: new Observed(recording, this.name),
      scope: Scope.makeUnsafe(),
      transactions: new Set(),
      main: undefined,
      stopping: false
    }
    this.#now = now
    const start = this.#starts++
    if (start > 0) recording.record({ _tag: "Restart", node: this.name })
    const context = Context.mergeAll(
      Context.make(Scheduler.Scheduler, process.scheduler),
      Context.make(Clock.Clock, process.clock),
      Context.make(Random.Random, {
        nextDoubleUnsafe: () => program.next(),
        nextIntUnsafe: () => Math.floor((program.next() - 0.5) * 2 * Number.MAX_SAFE_INTEGER)
      }),
      Context.make(MessageId, { next: Effect.sync(this.#shared.nextId) }),
      Context.make(References.MinimumLogLevel, "None"),
      Context.make(MemoryStore.Node, now.connection),
      Context.make(Interference, this.#around(now)),
      Context.make(Tables, tables),
      Context.make(Elsewhere, elsewhere)
    )
    const main = Effect.gen({ self: this }, function* () {
      const services = yield* Layer.buildWithMemoMap(
        this.#program.layer(start),
        Layer.forkMemoMapUnsafe(memoMap),
        now.scope
      )
      yield* Effect.provideContext(this.#program.main, services as Context.Context<Services>)
      this.finished = true
    })
    process.schedule(() => {
      now.main = Effect.runForkWith(context)(main)
      now.main.addObserver((exit) => {
        if (Exit.isSuccess(exit) || this.#now !== now || now.stopping) return
        if (exit.cause.reasons.every((reason) => reason._tag === "Die")) this.defect ??= exit.cause
        // A process that cannot begin its work ends, and somebody starts it again.
        server.schedule(() => this.#end(now, 500))
      })
    })
  }

  /** It ends here and now, and is started again later. */
  #end(now: Incarnation, downFor: number): void {
    if (this.#now !== now) return
    const { recording, server, world } = this.#shared
    this.#now = undefined
    now.process.end()
    now.connection.alive = false
    now.observed.ended()
    recording.record({ _tag: "Crash", node: this.name })
    this.#loseConnection(now)
    world.after(downFor, () => server.schedule(() => this.revive()))
  }

  /** The store notices, and aborts what was open. */
  #loseConnection({ transactions }: Incarnation): void {
    this.#shared.server.schedule(() => {
      for (const transaction of transactions) MemoryStore.abort(transaction)
      transactions.clear()
    })
  }

  /** Ends whatever is done to it. */
  revive(): void {
    const now = this.#now
    if (now === undefined) this.start()
    else if (now.process.state === "frozen" || !now.connection.alive) {
      now.connection.alive = true
      this.#shared.recording.record({ _tag: "Reconnect", node: this.name })
      now.process.thaw()
    }
  }

  /** Ends it in order. Calls back once it has. */
  stop(stopped: () => void): void {
    const now = this.#now
    if (now === undefined) stopped()
    if (now === undefined || now.stopping) return
    now.stopping = true
    now.process.schedule(() => {
      const context = Context.mergeAll(
        Context.make(Scheduler.Scheduler, now.process.scheduler),
        Context.make(Clock.Clock, now.process.clock)
      )
      const main = now.main === undefined ? Effect.void : Fiber.interrupt(now.main)
      Effect.runForkWith(context)(Effect.andThen(main, Scope.close(now.scope, Exit.void))).addObserver(() => {
        if (this.#now !== now) return
        this.#now = undefined
        now.process.end()
        this.#loseConnection(now)
        stopped()
      })
    })
  }

  #strike(fault: Fault): void {
    const { recording, server, world } = this.#shared
    const now = this.#now
    if (!this.#shared.disturbing || now === undefined) return
    const { kind, millis } = fault
    if (kind !== "crash") this.#tell(fault)
    switch (kind) {
      case "crash":
        this.#end(now, millis)
        return
      case "stop":
        this.stop(() => void world.after(millis, () => server.schedule(() => this.revive())))
        return
      case "freeze":
      case "disconnect":
        if (now.process.state !== "running" || !now.connection.alive) return
        recording.record({ _tag: "Disconnect", node: this.name })
        if (kind === "freeze") now.process.freeze()
        else {
          now.connection.alive = false
          this.#loseConnection(now)
        }
        world.after(millis, () => server.schedule(() => this.#now === now && this.revive()))
        return
      case "skew":
        now.process.skew = millis
    }
  }

  /** The fault that waits for this operation. */
  #met(name: string): Fault | undefined {
    if (!this.#shared.disturbing) return undefined
    const count = (this.#counts.get(name) ?? 0) + 1
    this.#counts.set(name, count)
    return this.#faults.size === 0 ? undefined : this.#faults.get(`${name}/${count}`)?.[0]
  }

  #around(now: Incarnation): Around {
    const { observed } = now
    return {
      publish: observed.publish,
      consumer: observed.consumer,
      run: observed.run,
      handler: (_, effect) =>
        Effect.suspend(() => {
          const fault = this.#met("handler")
          if (fault === undefined) return effect
          this.#tell(fault)
          switch (fault.kind) {
            case "defect":
              return Effect.die(new Error("a defect of the simulation"))
            case "hang":
              return Effect.never
            default:
              return Effect.delay(effect, fault.millis)
          }
        }),
      operation: (operation, effect) =>
        Effect.suspend(() => {
          const { transaction } = operation
          if (transaction !== undefined && transaction.state === "open") now.transactions.add(transaction)
          const recorded = this.#recorded(operation, effect)
          if (!this.#shared.disturbing) return recorded
          const fault = this.#met(operation.name)
          const latency = this.#shared.latency()
          const timely = latency === 0 ? recorded : Effect.delay(recorded, latency)
          return fault === undefined ? timely : this.#disturb(fault, operation, timely)
        })
    }
  }

  #tell(fault: Fault): void {
    const { at, kind } = fault
    const operation = "time" in at ? undefined : at.operation
    this.#shared.recording.record({ _tag: "Fault", node: this.name, kind, operation, what: describe(fault) })
  }

  #disturb<A>(
    fault: Fault,
    { name, topic, transaction }: Operation,
    effect: Effect.Effect<A, TransportError>
  ): Effect.Effect<A, TransportError> {
    const fail = (reason: Unavailable | OutcomeUnknown) =>
      Effect.suspend(() => {
        if (transaction !== undefined) MemoryStore.abort(transaction)
        return Effect.fail(new TransportError({ operation: name, topic, reason }))
      })
    const before = "when" in fault.at && fault.at.when === "before"
    /** Its turn comes again once it is no longer frozen, and never where it has ended. */
    const strike = Effect.andThen(
      Effect.sync(() => this.#strike(fault)),
      Effect.yieldNow
    )
    switch (fault.kind) {
      case "refuse":
        this.#tell(fault)
        return fail(new Unavailable({ detail: "the store refused, by a fault of the simulation" }))
      case "lose-reply":
        this.#tell(fault)
        return Effect.andThen(
          effect,
          Effect.suspend(() =>
            transaction === undefined || transaction.state === "committed"
              ? fail(new OutcomeUnknown({ detail: "the reply was lost, by a fault of the simulation" }))
              : fail(new Unavailable({ detail: "the connection was lost, by a fault of the simulation" }))
          )
        )
      case "delay":
        this.#tell(fault)
        return before ? Effect.delay(effect, fault.millis) : Effect.tap(effect, () => Effect.sleep(fault.millis))
      default:
        return before ? Effect.andThen(strike, effect) : Effect.tap(effect, () => strike)
    }
  }

  /** What can only be seen at the store. */
  #recorded<A>(operation: Operation, effect: Effect.Effect<A, TransportError>): Effect.Effect<A, TransportError> {
    const { holder, letters, name, topic, transaction } = operation
    const { recording } = this.#shared
    if (name === "redrive" && letters !== undefined) {
      return Effect.suspend(() => {
        for (const { group, record, topic } of letters()) {
          const { id, offset, partition } = record
          recording.record({ _tag: "Redrive", topic, group, id, partition, offset })
        }
        return effect
      })
    }
    if (name !== "settle" || transaction !== undefined || holder?.offset === undefined) return effect
    const { epoch, group, offset, partition } = holder
    const call = recording.events.length
    return Effect.onExit(effect, (exit) =>
      Effect.sync(() => {
        const outcome = Exit.isSuccess(exit) ? "ok" : "fail"
        const settle = { outcome, node: this.name, topic, group, partition, offset, epoch, call } as const
        recording.record({ _tag: "Settle", ...settle })
      })
    )
  }
}
