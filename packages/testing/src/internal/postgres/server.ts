import { type ChildProcess, spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { TestPostgresError } from "../../TestPostgresError.ts"
import type { Command, Reply, ServerOptions, StopMode } from "./protocol.ts"

/** A running embedded server and its controls. */
export interface Server {
  readonly port: number
  readonly stop: (mode: StopMode) => Effect.Effect<void, TestPostgresError>
  readonly start: Effect.Effect<void, TestPostgresError>
}

// `.ts` in this repository, `.js` as published.
const program = fileURLToPath(new URL(import.meta.url.replace(/server(\.[jt]s).*$/, "supervisor$1")))

// Detached: Ctrl-C in a terminal goes to every process of its group, and the server is to outlive our own shutdown.
const spawnSupervisor = Effect.sync(() => {
  const { NODE_OPTIONS: _, ...env } = process.env
  const child = spawn(process.execPath, [program], {
    cwd: "/",
    detached: true,
    env,
    stdio: ["ignore", "ignore", "ignore", "ipc"]
  })
  child.on("error", () => {}) // whoever waits for a reply listens too; nobody else may crash of it
  // An idle server does not keep the process alive.
  child.unref()
  child.channel?.unref()
  return child
})

const shutdown = (child: ChildProcess) =>
  Effect.callback<void>((resume) => {
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) {
      return resume(Effect.void)
    }
    child.ref()
    child.once("exit", () => resume(Effect.void))
    if (child.connected) child.disconnect()
  })

const request = (child: ChildProcess, command: Command) =>
  Effect.callback<number, TestPostgresError>((resume) => {
    const onMessage = (reply: Reply) =>
      settle(
        reply._tag === "Done"
          ? Effect.succeed(reply.port)
          : Effect.fail(new TestPostgresError({ reason: reply.reason, message: reply.message }))
      )
    const onGone = (cause: unknown) =>
      settle(
        Effect.fail(
          new TestPostgresError({
            reason: "SupervisorFailed",
            message: "The process that watches over the PostgreSQL server ended, and the server with it.",
            cause
          })
        )
      )
    const release = () => {
      child.off("message", onMessage).off("exit", onGone).off("error", onGone)
      child.channel?.unref()
    }
    const settle = (result: Effect.Effect<number, TestPostgresError>) => {
      release()
      resume(result)
    }
    if (!child.connected) return onGone(undefined)
    child.channel?.ref()
    child.on("message", onMessage).on("exit", onGone).on("error", onGone)
    child.send(command, (error) => error !== null && onGone(error))
    return Effect.sync(release)
  })

/** Starts a server under a supervisor; both are gone, with their files, when the scope closes or this process dies. */
export const make = Effect.fnUntraced(function* (
  options: ServerOptions
): Effect.fn.Return<Server, TestPostgresError, Scope.Scope> {
  const child = yield* Effect.acquireRelease(spawnSupervisor, shutdown)
  const semaphore = yield* Semaphore.make(1)
  // Uninterruptible: the reply to one command must not be taken for the reply to the next.
  const send = (command: Command) => semaphore.withPermit(Effect.uninterruptible(request(child, command)))
  const port = yield* request(child, { _tag: "Create", options })
  return {
    port,
    stop: (mode) => Effect.asVoid(send({ _tag: "Stop", mode })),
    start: Effect.asVoid(send({ _tag: "Start" }))
  }
})
