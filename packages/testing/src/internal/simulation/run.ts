/** One run: a phase in which faults happen, one in which everything has to come to an end, and a look at what is left. */
import * as MemoryStore from "@surety/core/MemoryStore"
import * as Surety from "@surety/core/Surety"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import type * as History from "../../History.ts"
import type { Fault, FaultRates, Plan, ProcessOf, Run, Services } from "../../Simulation.ts"
import { makeTables, type Tables } from "../../Table.ts"
import { partsWithout } from "../without.ts"
import { draw } from "./faults.ts"
import type { Mutation } from "./mutations.ts"
import { Node, type Shared } from "./node.ts"
import { contentOf, Recording } from "./observing.ts"
import { Rng } from "./random.ts"
import { Process, World } from "./world.ts"

/** What a check is about, the same for all of its runs. */
export interface Setup {
  readonly app: (process: ProcessOf) => Layer.Layer<any, unknown, Tables>
  readonly services: Layer.Layer<any, unknown>
  readonly workload: ReadonlyArray<Effect.Effect<unknown, unknown, Services>>
  readonly expect: Effect.Effect<unknown, unknown, Services>
  readonly invariants: ReadonlyArray<(history: History.History) => ReadonlyArray<History.Violation>>
  readonly nodes: number
  readonly clients: number
  readonly store: MemoryStore.Options
  readonly lease: number
  readonly rates: FaultRates
  /** How long faults happen, and how long it may take from then on, in milliseconds. */
  readonly during: number
  readonly within: number
  readonly mutation: Mutation | undefined
}

/** The services of a node, over the store of the run. */
export const servicesOf = (mutation: Mutation | undefined): Layer.Layer<Exclude<Services, Tables>, unknown> =>
  mutation?.without === undefined
    ? Surety.layerMemory
    : Surety.layer.pipe(Layer.provideMerge(partsWithout(mutation.without)))

/** What a seed says, before anything has run. */
export const planOf = ({ during, lease, nodes, clients, rates, workload }: Setup, seed: number): Plan => {
  const rng = new Rng(seed, 2)
  const names = [...namesOf("node", nodes), ...(rng.chance(0.3) ? namesOf("client", clients) : [])]
  return {
    nodes,
    steps: workload.map((_, index) => index),
    faults: draw(rng, rates, { nodes: names, during, lease })
  }
}

const namesOf = (kind: string, count: number) => Array.from({ length: count }, (_, index) => `${kind}-${index + 1}`)

/** Runs a seed, with all that it draws or with what is left of it. */
export const run = async (setup: Setup, seed: number, plan: Plan = planOf(setup, seed)): Promise<Run> => {
  const swarm = new Rng(seed, 5)
  const world = new World(new Rng(seed, 1), swarm.pick([8, 30, 100, 1000]))
  const recording = new Recording(world)
  const server = new Process(world)
  const latencies = new Rng(seed, 3)
  const [often, most] = [swarm.pick([0, 0.05, 0.3]), swarm.pick([2, 20, 100])]
  let ids = 0
  const shared: Shared = {
    world,
    recording,
    server,
    memoMap: Layer.makeMemoMapUnsafe(),
    elsewhere: Layer.makeMemoMapUnsafe(),
    tables: makeTables(),
    latency: () => (latencies.chance(often) ? latencies.between(1, most) : 0),
    program: new Rng(seed, 4),
    nextId: () => `id-${++ids}`,
    disturbing: true
  }
  const onServer = Context.mergeAll(
    Context.make(Scheduler.Scheduler, server.scheduler),
    Context.make(Clock.Clock, server.clock),
    Context.make(MemoryStore.CurrentOptions, setup.store),
    Context.make(MemoryStore.Unprotected, new Set(setup.mutation?.unprotected))
  )
  const scope = Scope.makeUnsafe()
  const stores = [shared.memoMap, shared.elsewhere].map((memoMap) =>
    Context.get(
      Effect.runSyncWith(onServer)(Layer.buildWithMemoMap(MemoryStore.layer, memoMap, scope)),
      MemoryStore.MemoryStore
    )
  )

  const faultsOf = (name: string) => plan.faults.filter(({ node }) => node === name)
  const nodes = namesOf("node", plan.nodes).map(
    (name, node) =>
      new Node(
        name,
        shared,
        { layer: (start) => setup.app({ node: node + 1, start }), main: Effect.never },
        faultsOf(name)
      )
  )
  const clients = namesOf("client", setup.clients).map((name, index) => {
    const steps = plan.steps.filter((step) => step % setup.clients === index)
    const pauses = new Rng(seed, 100 + index)
    const longest = swarm.pick([0, 20, 500])
    let next = 0
    const main = Effect.gen(function* () {
      while (next < steps.length) {
        const step = setup.workload[steps[next++]!]!
        yield* Effect.sleep(pauses.int(longest + 1))
        // It fails as a client would: a step that dies otherwise is a mistake in the workload.
        yield* step.pipe(
          Effect.catch(() => Effect.void),
          Effect.catchDefect((defect) =>
            defect instanceof MemoryStore.ConnectionLost ? Effect.void : Effect.die(defect)
          )
        )
      }
    })
    return new Node(name, shared, { layer: () => setup.services, main }, faultsOf(name))
  })
  const all = [...nodes, ...clients]
  for (const node of all) node.start()

  const quiet = () =>
    clients.every(({ finished }) => finished) && nodes.every(({ running }) => running === 0) && stores.every(isSettled)
  /** Whether a fault can still happen while nothing is to be done but to renew leases. */
  const isAhead = ({ at }: Fault) => ("time" in at ? at.time >= world.now : at.operation === "heartbeat")
  const isIdle = () => quiet() && all.every(({ isConnected }) => isConnected) && !plan.faults.some(isAhead)
  // All faults that there are have happened by then, or never will.
  await world.run(isIdle, setup.during)
  shared.disturbing = false
  for (const node of all) node.revive()
  recording.record({ _tag: "Calm", within: setup.within })
  const settled = await world.run(quiet, world.now + setup.within)

  const violations: Array<History.Violation> = []
  const violated = (invariant: number, name: string, message: string) => {
    violations.push({ invariant, name, message, events: recording.events.slice(-20) })
  }
  if (!settled)
    violated(19, "convergence", `${unsettled(stores, nodes, clients)} after ${setup.within} ms without faults`)

  let expected: Exit.Exit<unknown, unknown> | undefined
  const observer = new Node(
    "observer",
    shared,
    {
      layer: () => setup.services,
      main: Effect.gen(function* () {
        expected = yield* Effect.exit(setup.expect)
      })
    },
    []
  )
  if (settled) observer.start()
  const looked = await world.run(() => !settled || observer.finished, world.now + setup.within)
  if (!looked) violated(19, "convergence", "what is expected cannot be looked at")
  if (expected !== undefined && Exit.isFailure(expected)) {
    const error = Cause.squash(expected.cause)
    violated(0, "expectation", error instanceof Error ? error.message : String(error))
  }
  // Whoever has crashed is no member any more, once its lease is over.
  await world.run(() => false, world.now + (setup.lease * 4) / 3)
  let stopped = 0
  for (const node of [...all, observer]) node.stop(() => void stopped++)
  if (!(await world.run(() => stopped === all.length + 1, world.now + setup.within))) {
    violated(21, "drain", "a process that was told to stop has not ended")
  }
  for (const node of [...all, observer]) {
    if (node.defect !== undefined)
      violated(0, "defect", `${node.name}: ${Cause.pretty(node.defect as Cause.Cause<unknown>)}`)
  }
  for (const store of stores) look(store, recording, settled)
  violations.push(...setup.invariants.flatMap((invariant) => invariant(recording.events)))
  return { seed, plan, history: recording.events, violations }
}

type Store = MemoryStore.MemoryStore["Service"]

const isSettled = ({ delayed, groups, logs }: Store): boolean => {
  if (delayed.waiting.length > 0) return false
  for (const { cursors, topic } of groups.values()) {
    const { partitions } = logs.get(topic)!
    for (const { parked, partition, settled } of cursors) {
      if (parked.size > 0 || partitions[partition]!.count(settled) > 0 || partitions[partition]!.isOpen) return false
    }
  }
  return true
}

/** What is not over, in words. */
const unsettled = (stores: ReadonlyArray<Store>, nodes: ReadonlyArray<Node>, clients: ReadonlyArray<Node>): string => {
  const busy = nodes
    .filter(({ running }) => running > 0)
    .map(({ name, running }) => `${running} handlers of ${name} run`)
  const working = clients.filter(({ finished }) => !finished).map(({ name }) => `${name} has not ended`)
  const open = stores.flatMap(({ groups, logs }) =>
    Array.from(groups.values()).flatMap(({ cursors, name, topic }) =>
      cursors.flatMap(({ parked, partition, settled }) => {
        const lag = logs.get(topic)!.partitions[partition]!.count(settled)
        return lag + parked.size === 0
          ? []
          : [`group "${name}" of "${topic}" has ${lag} unsettled and ${parked.size} parked on partition ${partition}`]
      })
    )
  )
  const waiting = stores.reduce((total, { delayed }) => total + delayed.waiting.length, 0)
  return (
    [...busy, ...working, ...open, ...(waiting === 0 ? [] : [`${waiting} are delayed`])].join(", ") ||
    "something is not over"
  )
}

/** What the store holds at the end. */
const look = (store: Store, recording: Recording, settled: boolean): void => {
  for (const { cursors, deadLetters, inbox, members, name: group, topic } of store.groups.values()) {
    for (const { attempts, failure, record } of deadLetters.values()) {
      const { id, offset, partition } = record
      const cause = `${failure.tag}: ${failure.message}`
      const content = contentOf(record)
      recording.record({ _tag: "DeadLetter", topic, group, id, partition, offset, attempts, content, cause })
    }
    for (const { partition, settled } of cursors) {
      recording.record({ _tag: "Progress", topic, group, partition, settled })
    }
    if (!settled) continue
    const sum = (of: (cursor: (typeof cursors)[number]) => number) =>
      cursors.reduce((total, cursor) => total + of(cursor), 0)
    const residue = (what: string, count: number) => recording.record({ _tag: "Residue", topic, group, what, count })
    residue(
      "attempts",
      sum(({ attempts }) => attempts.size)
    )
    residue(
      "redeliveries",
      sum(({ parked }) => parked.size)
    )
    residue("pending", Array.from(inbox.values()).filter((entry) => entry === "pending").length)
    residue("members", members.size)
    residue(
      "leases",
      sum(({ holder }) => (holder === undefined ? 0 : 1))
    )
  }
}
