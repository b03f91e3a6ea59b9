/** Worker processes, as their parent sees them. */
import { fork } from "node:child_process"
import { fileURLToPath } from "node:url"
import { Effect, Schema } from "effect"
import type { WorkerProcess } from "../system.ts"
import type { Report } from "./worker.ts"

class WorkerEnded extends Schema.TaggedError<WorkerEnded>()("WorkerEnded", {}) {
  override get message(): string {
    return "A worker process ended before it was connected; what it wrote above says why."
  }
}

const file = fileURLToPath(new URL("./worker.ts", import.meta.url))

/** Starts one, and returns once it is connected. */
export const spawnWorker = (env: Readonly<Record<string, string>>) =>
  Effect.acquireRelease(
    Effect.sync(() => fork(file, { env: { ...process.env, ...env } })),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  ).pipe(
    Effect.flatMap((child) =>
      Effect.callback<WorkerProcess, WorkerEnded>((resume) => {
        const worker: WorkerProcess = {
          go: Effect.sync(() => void child.send("go")),
          kill: Effect.sync(() => void child.kill("SIGKILL")),
          handled: 0,
          serving: [],
          latest: new Map()
        }
        child.once("exit", () => resume(Effect.fail(new WorkerEnded())))
        child.on("message", (report: Report) => {
          if (report === "ready") return resume(Effect.succeed(worker))
          worker.handled = report.handled
          worker.serving = report.serving
          for (const partition of report.partitions) worker.latest.set(partition, performance.now())
        })
      })
    )
  )
