/** Workers in processes of their own, which a test freezes and kills. */
import { spawn } from "node:child_process"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { Effect, Redacted } from "effect"
import { TestDatabase, until } from "./nodes.ts"

export interface WorkerOptions {
  readonly name: string
  readonly leaseMillis: number
  readonly partitions?: number | undefined
  readonly maxCrashes?: number | undefined
}

/** Starts a fixture as a process; it is killed when the scope closes, frozen or not. */
const spawnFixture = (fixture: string, options: object, env: NodeJS.ProcessEnv = {}) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const { NODE_OPTIONS: _, ...own } = process.env
      const program = fileURLToPath(new URL(`../fixtures/${fixture}.ts`, import.meta.url))
      return spawn(process.execPath, [program, JSON.stringify(options)], {
        env: { ...own, ...env },
        stdio: ["pipe", "pipe", "inherit"]
      })
    }),
    (child) =>
      Effect.callback<void>((resume) => {
        if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
        child.once("exit", () => resume(Effect.void))
        child.kill("SIGKILL")
      })
  )

/** A fixture of which nothing but its end is expected. */
export const startProgram = (fixture: string, options: object) =>
  Effect.map(spawnFixture(fixture, options), (child) => {
    child.stdout.resume()
    return { signal: (signal: NodeJS.Signals) => Effect.sync(() => child.kill(signal)) }
  })

/** Starts a worker on the test's database. */
export const startWorker = Effect.fnUntraced(function* (options: WorkerOptions) {
  const { url } = yield* TestDatabase
  const child = yield* spawnFixture("worker", options, { DATABASE_URL: Redacted.value(url) })
  const lines: Array<string> = []
  createInterface(child.stdout).on("line", (line) => lines.push(line))
  // It may be gone when it is told to go on.
  child.stdin.on("error", () => {})
  return {
    name: options.name,
    /** What it said: see the fixture, and its log. */
    says: (what: string | RegExp) =>
      until(
        `${options.name} says ${what}`,
        Effect.sync(() => lines.some((line) => (typeof what === "string" ? line === what : what.test(line))))
      ),
    signal: (signal: NodeJS.Signals) => Effect.sync(() => child.kill(signal)),
    /** Lets a handler that waits go on. */
    go: Effect.sync(() => child.stdin.write("go\n")),
    /** Whether it has ended. */
    ended: Effect.sync(() => child.exitCode !== null || child.signalCode !== null)
  }
})
