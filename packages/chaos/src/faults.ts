/** The faults of a run, drawn from its seed: which ones, and how far apart. What they hit depends on what goes on. */
import { Effect, Random } from "effect"
import type { Fleet } from "./fleet.ts"
import { type Fault, leaseMillis, type Server } from "./transport.ts"

export interface Fleets {
  readonly workers: Fleet
  readonly publishers: Fleet
}

const freeze = ({ workers }: Fleets) =>
  Effect.gen(function* () {
    const worker = yield* workers.pick
    yield* worker.signal("SIGSTOP")
    yield* Effect.sleep(leaseMillis * (yield* Random.nextBetween(1.5, 2.5)))
    yield* worker.signal("SIGCONT")
  })

/** Partitions move to one more, and back. */
const visit = ({ workers }: Fleets) =>
  Effect.flatMap(Random.nextIntBetween(500, 3000), (millis) => workers.visit(Effect.sleep(millis)))

const signal = (fleet: Fleet, signal: NodeJS.Signals) => Effect.flatMap(fleet.pick, (process) => process.signal(signal))

/** Workers are hit more often than publishers: who handles nothing breaks no promise. */
const faultsOf = (fleets: Fleets, server: Server): ReadonlyArray<Fault> => {
  const ofWorkers: ReadonlyArray<Fault> = [
    { name: "workers killed", inflict: signal(fleets.workers, "SIGKILL") },
    { name: "workers frozen", inflict: freeze(fleets) },
    { name: "workers stopped", inflict: signal(fleets.workers, "SIGTERM") },
    { name: "workers that came and went", inflict: visit(fleets) }
  ]
  const publishersKilled: Fault = { name: "publishers killed", inflict: signal(fleets.publishers, "SIGKILL") }
  return [...ofWorkers, ...ofWorkers, publishersKilled, ...server.faults]
}

/** Inflicts faults until it is interrupted, and counts those that were. */
export const inflict = (seed: string, fleets: Fleets, server: Server, inflicted: Map<string, number>) => {
  const count = ({ inflict, name }: Fault) =>
    Effect.ignore(
      Effect.andThen(
        inflict,
        Effect.sync(() => inflicted.set(name, (inflicted.get(name) ?? 0) + 1))
      )
    )
  const all = faultsOf(fleets, server)
  const oneOf = (faults: ReadonlyArray<Fault>) =>
    Effect.map(Random.nextIntBetween(0, faults.length, { halfOpen: true }), (index) => count(faults[index]!))
  const sometimes = Effect.gen(function* () {
    yield* Effect.sleep(yield* Random.nextIntBetween(300, 1500))
    // A worker stays frozen while others are hit.
    yield* Effect.forkChild(yield* oneOf(all))
  }).pipe(Effect.forever, Random.withSeed(`${seed}/processes`))
  const restarts = Effect.gen(function* () {
    yield* Effect.sleep(yield* Random.nextIntBetween(5000, 10_000))
    yield* yield* oneOf(server.restarts)
  }).pipe(Effect.forever, Random.withSeed(`${seed}/server`))
  return Effect.all([sometimes, restarts], { concurrency: "unbounded", discard: true })
}
