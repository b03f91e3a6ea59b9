/** Runs a program of the repository as its users do: as a process, with its output. */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { Deferred, Effect } from "effect"

const root = fileURLToPath(new URL("../../..", import.meta.url))

export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: ReadonlyArray<string>
  readonly stderr: ReadonlyArray<string>
}

export interface Program {
  readonly process: ChildProcess
  /** Completes with the first line, of those to come, that matches; dies when the program ends before. */
  readonly line: (pattern: RegExp) => Effect.Effect<string>
  readonly ended: Effect.Effect<Ended>
}

/** Starts `node …args` in the root of the repository. It ends with the scope at the latest. */
export const start = (args: ReadonlyArray<string>, env: Readonly<Record<string, string | undefined>> = {}) =>
  Effect.acquireRelease(
    Effect.sync((): Program => {
      const child = spawn(process.execPath, args, {
        cwd: root,
        env: { ...process.env, ...env },
        // Some end once their standard input does: with us, however we end.
        stdio: ["pipe", "pipe", "pipe"]
      })
      const written = { stdout: [] as string[], stderr: [] as string[] }
      const waiting = new Map<RegExp, Deferred.Deferred<string>>()
      for (const name of ["stdout", "stderr"] as const) {
        createInterface({ input: child[name] }).on("line", (line) => {
          written[name].push(line)
          for (const [pattern, found] of waiting) {
            if (pattern.test(line)) Deferred.doneUnsafe(found, Effect.succeed(line))
          }
        })
      }
      const closed = once(child, "close") as Promise<[number | null, NodeJS.Signals | null]>
      const ended = Effect.map(
        Effect.promise(() => closed),
        ([code, signal]): Ended => ({ code, signal, ...written })
      )
      return {
        process: child,
        line: (pattern) =>
          Effect.suspend(() => {
            const found = Deferred.makeUnsafe<string>()
            waiting.set(pattern, found)
            const endedBefore = Effect.flatMap(ended, ({ code, stderr, stdout }) =>
              Effect.die(new Error(`ended with ${code} before ${pattern}:\n${[...stdout, ...stderr].join("\n")}`))
            )
            return Effect.raceFirst(Deferred.await(found), endedBefore)
          }),
        ended
      }
    }),
    ({ process }) => Effect.sync(() => process.kill("SIGKILL"))
  )

/** Runs it to its end. */
export const run = (args: ReadonlyArray<string>, env?: Readonly<Record<string, string | undefined>>) =>
  Effect.scoped(Effect.flatMap(start(args, env), ({ ended }) => ended))
