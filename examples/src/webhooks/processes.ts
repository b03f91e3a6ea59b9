/** Runs the receiver and the workers as processes of their own, and kills workers. */
import { fileURLToPath } from "node:url"
import { Deferred, Effect, Latch, Option, Queue, Random, type Redacted, Schema, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { decode, type Line } from "./processes/lines.ts"
import { stepsDone, type Tally } from "./tally.ts"

/** Environment variables of the processes, beside our own. */
export type Environment = Readonly<Record<string, string | Redacted.Redacted>>

/** A process of the demo ended, and not because we killed it. */
export class ProcessEnded extends Schema.TaggedError<ProcessEnded>()("ProcessEnded", { process: Schema.String }) {
  override get message(): string {
    return `The ${this.process} process ended by itself; what it wrote above says why.`
  }
}

/** Spawns a process that lives until the scope closes. */
const spawn = Effect.fnUntraced(function* (name: "receiver" | "worker", env: Environment) {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const file = fileURLToPath(new URL(`./processes/${name}.ts`, import.meta.url))
  return yield* spawner.spawn(
    ChildProcess.make(process.execPath, [file], { env, extendEnv: true, stderr: "inherit", killSignal: "SIGKILL" })
  )
})

/** Calls back with each line that the process prints, until it ends. */
const listen = (handle: ChildProcessSpawner.ChildProcessHandle, onLine: (line: Line) => Effect.Effect<unknown>) =>
  handle.stdout.pipe(
    Stream.decodeText(),
    Stream.splitLines,
    Stream.runForEach((text) =>
      Effect.flatMap(
        Effect.option(decode(text)),
        Option.match({
          onNone: () => Effect.void,
          onSome: onLine
        })
      )
    )
  )

export interface Receiver {
  readonly url: string
  /** Fails once the process ends. */
  readonly failed: Effect.Effect<never, ProcessEnded>
}

/** Starts the receiver, and returns once it listens. It ends with the scope. */
export const startReceiver = Effect.fn("Webhooks.startReceiver")(function* (env: Environment) {
  const port = yield* Deferred.make<number>()
  const failed = yield* Deferred.make<never, ProcessEnded>()
  const receiver = yield* spawn("receiver", env)
  yield* listen(receiver, (line) => (line._tag === "Listening" ? Deferred.succeed(port, line.port) : Effect.void)).pipe(
    Effect.ignore,
    Effect.andThen(Deferred.fail(failed, new ProcessEnded({ process: "receiver" }))),
    Effect.forkScoped
  )
  const url = `http://127.0.0.1:${yield* Effect.raceFirst(Deferred.await(port), Deferred.await(failed))}/webhooks`
  return { url, failed: Deferred.await(failed) } satisfies Receiver
})

/** A worker that ends by itself is started again this often, half a second apart. */
const maxRestarts = 20

export interface Workers {
  /** Kills one of them, in the middle of its work, and starts another in its place. */
  readonly kill: Effect.Effect<void>
  /** Fails once workers end by themselves again and again. */
  readonly failed: Effect.Effect<never, ProcessEnded>
}

/** Keeps so many workers running until the scope closes. */
export const startWorkers = Effect.fn("Webhooks.startWorkers")(function* (
  count: number,
  env: Environment,
  tally: Tally
) {
  const working = yield* Queue.unbounded<ChildProcessSpawner.ChildProcessHandle>()
  const failed = yield* Deferred.make<never, ProcessEnded>()
  const killed = new Set<ChildProcessSpawner.ProcessId>()
  let restarts = 0

  /** A worker is worth killing once it has committed something; where nothing is left to do, a while after its start. */
  const whenWorking = Effect.fnUntraced(function* (worker: ChildProcessSpawner.ChildProcessHandle) {
    const committed = yield* Latch.make()
    yield* Effect.raceFirst(committed.await, Effect.sleep("3 seconds")).pipe(
      Effect.andThen(Queue.offer(working, worker)),
      Effect.forkScoped
    )
    return committed
  })

  const life = Effect.scoped(
    Effect.gen(function* () {
      const worker = yield* spawn("worker", env)
      const committed = yield* whenWorking(worker)
      yield* listen(worker, (line) => {
        if (line._tag !== "Committed") return Effect.void
        tally.latencies.push(line.millis)
        return committed.open
      })
      if (killed.has(worker.pid)) return
      if (++restarts > maxRestarts) yield* Deferred.fail(failed, new ProcessEnded({ process: "worker" }))
      yield* Effect.sleep("500 millis")
    })
  )
  const slot = Effect.forever(Effect.ignore(life))
  yield* Effect.forkScoped(
    Effect.all(
      Array.from({ length: count }, () => slot),
      { concurrency: "unbounded" }
    )
  )

  const kill: Effect.Effect<void> = Effect.gen(function* () {
    const worker = yield* Queue.take(working)
    yield* Effect.sleep(yield* Random.nextIntBetween(0, 200))
    killed.add(worker.pid)
    yield* worker.kill({ killSignal: "SIGKILL" })
    tally.kills++
  }).pipe(Effect.eventually)

  return { kill, failed: Deferred.await(failed) } satisfies Workers
})

/** Kills workers while the deliveries are sent, at equal distances. */
export const killWorkers = Effect.fn("Webhooks.killWorkers")(function* (
  { kill }: Workers,
  options: { readonly kills: number; readonly steps: number; readonly tally: Tally }
) {
  for (let i = 1; i <= options.kills; i++) {
    yield* stepsDone(options.tally, Math.floor((options.steps * i) / (options.kills + 1)))
    yield* kill
  }
})
