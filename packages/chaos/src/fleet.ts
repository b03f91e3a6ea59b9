/** Processes that are started again whenever they end, for whatever reason. */
import * as TestProcess from "@surety/testing/TestProcess"
import { Cause, Effect, Random } from "effect"

export interface Fleet {
  /** One of those at work, by chance: none where none is. A process is at work from its first line on. */
  readonly pick: Effect.Effect<TestProcess.TestProcess, Cause.NoSuchElementError>
  /** One more comes, works for a while, and leaves in order. */
  readonly visit: (stay: Effect.Effect<unknown>) => Effect.Effect<void>
  /** Lets go on what is frozen. */
  readonly thaw: Effect.Effect<void>
  /** How often one was started. */
  readonly started: () => number
}

/** Runs `size` of them until the scope closes, frozen or not. */
export const make = Effect.fnUntraced(function* (
  file: string,
  size: number,
  options: (slot: number) => TestProcess.Options
) {
  const running = new Map<number, TestProcess.TestProcess>()
  const working = new Set<number>()
  let started = 0
  /** One process, from its start to its end. */
  const run = (slot: number, meanwhile: (process: TestProcess.TestProcess) => Effect.Effect<unknown>) =>
    Effect.gen(function* () {
      const { onLine, ...rest } = options(slot)
      const process = yield* TestProcess.spawn(new URL(`./processes/${file}.ts`, import.meta.url), {
        ...rest,
        onLine: (line) => {
          working.add(slot)
          onLine?.(line)
        }
      })
      started++
      running.set(slot, process)
      yield* Effect.raceFirst(process.ended, Effect.andThen(meanwhile(process), process.ended))
    }).pipe(
      Effect.scoped,
      Effect.ensuring(
        Effect.sync(() => {
          running.delete(slot)
          working.delete(slot)
        })
      )
    )
  const life = (slot: number) =>
    run(slot, () => Effect.void).pipe(Effect.andThen(Effect.sleep("100 millis")), Effect.forever)
  for (let slot = 0; slot < size; slot++) yield* Effect.forkScoped(life(slot))
  let next = size
  const fleet: Fleet = {
    pick: Effect.suspend(() => {
      const all = Array.from(working, (slot) => running.get(slot)!)
      return all.length === 0
        ? Effect.fail(new Cause.NoSuchElementError())
        : Effect.map(Random.nextIntBetween(0, all.length, { halfOpen: true }), (index) => all[index]!)
    }),
    visit: (stay) =>
      Effect.suspend(() => {
        const slot = next++
        const atWork = Effect.repeat(Effect.sleep("50 millis"), { until: () => working.has(slot) })
        return run(slot, (process) => Effect.all([atWork, stay, process.signal("SIGTERM")], { discard: true }))
      }),
    thaw: Effect.suspend(() =>
      Effect.forEach(running.values(), (process) => process.signal("SIGCONT"), { discard: true })
    ),
    started: () => started
  }
  return fleet
})
