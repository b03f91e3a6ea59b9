/**
 * The faults of a run, as data: drawn from its seed before it begins, and met where it comes by. A run with some of them
 * left out draws nothing anew.
 */
import type { Fault, FaultKind, FaultRates } from "../../Simulation.ts"
import type { Rng } from "./random.ts"

export const kinds: ReadonlyArray<FaultKind> = [
  "crash",
  "stop",
  "freeze",
  "disconnect",
  "refuse",
  "lose-reply",
  "delay",
  "defect",
  "hang",
  "slow",
  "skew"
]

/** What the fault of an operation may strike, and how often a run has such an operation, about. */
const operations: ReadonlyArray<readonly [name: string, often: number]> = [
  ["commit", 12],
  ["commit", 12],
  ["settle", 12],
  ["publish", 10],
  ["draw", 8],
  ["begin", 12],
  ["admit", 12],
  ["claim", 12],
  ["heartbeat", 20],
  ["count", 8],
  ["park", 4],
  ["read", 4],
  ["deadLetter", 3],
  ["table.write", 10],
  ["table.get", 10],
  ["fence", 4],
  ["redrive", 3],
  ["subscribe", 2]
]

export interface Surroundings {
  readonly nodes: ReadonlyArray<string>
  /** How long faults go on, in milliseconds. */
  readonly during: number
  readonly lease: number
}

/**
 * Swarm: each run has kinds of faults of its own, and as many of each as it happens to, so that some have a single fault
 * and some know nothing but crashes.
 */
export const draw = (rng: Rng, rates: FaultRates, around: Surroundings): ReadonlyArray<Fault> => {
  const faults: Array<Fault> = []
  for (const kind of kinds) {
    const most = rates[kind] ?? 0
    // Each kind is absent from half of the runs.
    const count = rng.chance(0.5) ? rng.int(most + 1) : 0
    for (let i = 0; i < count; i++) faults.push(one(rng, kind, around))
  }
  return faults
}

const one = (rng: Rng, kind: FaultKind, { during, lease, nodes }: Surroundings): Fault => {
  const node = rng.pick(nodes)
  const atTime = () => ({ time: rng.int(during) })
  const atOperation = () => {
    const [operation, often] = rng.pick(operations)
    return { operation, nth: 1 + rng.int(often), when: rng.chance(0.5) ? ("before" as const) : ("after" as const) }
  }
  /** Shorter than the lease, or longer. */
  const duration = () => (rng.chance(0.5) ? rng.int(lease) : lease + rng.int(2 * lease))
  switch (kind) {
    case "crash":
    case "freeze":
      return { kind, node, at: rng.chance(0.7) ? atOperation() : atTime(), millis: duration() }
    case "stop":
    case "disconnect":
      return { kind, node, at: atTime(), millis: duration() }
    case "refuse":
    case "lose-reply":
      return { kind, node, at: atOperation(), millis: 0 }
    case "delay":
      return { kind, node, at: atOperation(), millis: rng.chance(0.7) ? rng.int(200) : duration() }
    case "defect":
    case "hang":
      return { kind, node, at: { operation: "handler", nth: 1 + rng.int(12), when: "before" }, millis: 0 }
    case "slow":
      return { kind, node, at: { operation: "handler", nth: 1 + rng.int(12), when: "before" }, millis: duration() }
    case "skew":
      return { kind, node, at: atTime(), millis: rng.between(-3_000, 3_000) }
  }
}

export const describe = ({ at, kind, millis, node }: Fault): string => {
  const place = "time" in at ? `at ${at.time} ms` : `${at.when} its ${at.operation} number ${at.nth}`
  switch (kind) {
    case "refuse":
    case "lose-reply":
    case "defect":
    case "hang":
      return `${node}: ${kind} ${place}`
    case "skew":
      return `${node}: its clock is ${millis} ms ahead, ${place}`
    default:
      return `${node}: ${kind} for ${millis} ms, ${place}`
  }
}
