/**
 * A program of yours as a process of its own, which a test freezes, kills and
 * stops.
 *
 * The process is killed when the scope closes, frozen or not. It also ends when
 * the process that started it is gone, however it went, if it calls
 * {@link endWithParent}.
 *
 * @since 0.1.0
 */
import { spawn as spawnProcess } from "node:child_process"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/**
 * A process that was started.
 *
 * @category models
 * @since 0.1.0
 */
export interface TestProcess {
  readonly pid: number
  /** `SIGSTOP` freezes it, `SIGCONT` lets it go on, `SIGKILL` ends it, `SIGTERM` asks it to end. Nothing for one that has ended. */
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
  /** Writes a line to its standard input. */
  readonly tell: (line: string) => Effect.Effect<void>
  /** Completes once it has ended, with its exit code, or the signal that ended it. */
  readonly ended: Effect.Effect<number | NodeJS.Signals>
  /** Whether it has ended. */
  readonly hasEnded: Effect.Effect<boolean>
}

/**
 * Options of {@link spawn}.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly args?: ReadonlyArray<string> | undefined
  /** Beside the environment of this process. */
  readonly env?: Readonly<Record<string, string>> | undefined
  /** Called with each line that it prints. Its standard error is passed on. */
  readonly onLine?: ((line: string) => void) | undefined
}

/**
 * Starts a file under the Node.js of this process.
 *
 * @category constructors
 * @since 0.1.0
 */
export const spawn = (file: URL, options: Options = {}): Effect.Effect<TestProcess, never, Scope.Scope> =>
  Effect.gen(function* () {
    const ended = yield* Deferred.make<number | NodeJS.Signals>()
    const { NODE_OPTIONS: _, ...inherited } = process.env
    const child = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const child = spawnProcess(process.execPath, [fileURLToPath(file), ...(options.args ?? [])], {
          env: { ...inherited, ...options.env },
          stdio: ["pipe", "pipe", "inherit"]
        })
        child.once("exit", (code, signal) => Deferred.doneUnsafe(ended, Effect.succeed(signal ?? code ?? 0)))
        // It may be gone when it is told something.
        child.stdin.on("error", () => {})
        createInterface(child.stdout).on("line", options.onLine ?? (() => {}))
        return child
      }),
      (child) => {
        child.kill("SIGKILL")
        return Deferred.await(ended)
      }
    )
    return {
      pid: child.pid!,
      signal: (signal) => Effect.sync(() => void child.kill(signal)),
      tell: (line) => Effect.sync(() => void child.stdin.write(`${line}\n`)),
      ended: Deferred.await(ended),
      hasEnded: Effect.sync(() => Deferred.isDoneUnsafe(ended))
    }
  })

/**
 * For the program itself: ends it once the process that started it is gone.
 *
 * @category programs
 * @since 0.1.0
 */
export const endWithParent: Effect.Effect<void> = Effect.sync(() => {
  process.stdin.on("end", () => process.exit()).resume()
})
