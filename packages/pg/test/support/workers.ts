/** Workers in processes of their own, which a test freezes and kills. */
import * as TestProcess from "@surety/testing/TestProcess"
import { Effect, Redacted } from "effect"
import { TestDatabase, until } from "./nodes.ts"

export interface WorkerOptions {
  readonly name: string
  readonly leaseMillis: number
  readonly partitions?: number | undefined
  readonly maxCrashes?: number | undefined
}

/** Starts a fixture as a process; it is killed when the scope closes, frozen or not. */
const spawnFixture = (fixture: string, options: object, rest: Omit<TestProcess.Options, "args"> = {}) =>
  TestProcess.spawn(new URL(`../fixtures/${fixture}.ts`, import.meta.url), {
    ...rest,
    args: [JSON.stringify(options)]
  })

/** A fixture of which nothing but its end is expected. */
export const startProgram = (fixture: string, options: object) => spawnFixture(fixture, options)

/** Starts a worker on the test's database. */
export const startWorker = Effect.fnUntraced(function* (options: WorkerOptions) {
  const { url } = yield* TestDatabase
  const lines: Array<string> = []
  const worker = yield* spawnFixture("worker", options, {
    env: { DATABASE_URL: Redacted.value(url) },
    onLine: (line) => lines.push(line)
  })
  return {
    name: options.name,
    /** What it said: see the fixture, and its log. */
    says: (what: string | RegExp) =>
      until(
        `${options.name} says ${what}`,
        Effect.sync(() => lines.some((line) => (typeof what === "string" ? line === what : what.test(line))))
      ),
    signal: worker.signal,
    /** Lets a handler that waits go on. */
    go: worker.tell("go"),
    /** Whether it has ended. */
    ended: worker.hasEnded
  }
})
