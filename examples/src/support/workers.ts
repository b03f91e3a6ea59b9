/** Runs workers as processes of their own, and ends them. */
import { fileURLToPath } from "node:url"
import { Effect, type Redacted } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"

/** Starts a program as a worker, which lives until the scope closes. `end` sends it a signal, and waits until it is gone. */
export const start = Effect.fn("Workers.start")(function* (
  program: URL,
  env: Readonly<Record<string, string | Redacted.Redacted>>
) {
  const file = fileURLToPath(program)
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const worker = yield* spawner.spawn(
    ChildProcess.make(process.execPath, [file], { env, extendEnv: true, stdout: "inherit", stderr: "inherit" })
  )
  return { end: (signal: "SIGTERM" | "SIGKILL") => Effect.ignore(worker.kill({ killSignal: signal })) }
})
