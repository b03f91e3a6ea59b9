/** A PgBouncer in transaction mode, in front of the server of the tests. */
import { spawn, spawnSync } from "node:child_process"
import * as fs from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect, Redacted } from "effect"

/** Debian's package puts it where only root looks. */
const command = ["pgbouncer", "/usr/sbin/pgbouncer"].find(
  (file) => spawnSync(file, ["--version"], { stdio: "ignore" }).status === 0
)

export const missing =
  command === undefined ? "there is no pgbouncer on this machine; install the package `pgbouncer`" : undefined

const freePort = Effect.callback<number>((resume) => {
  const server = createServer().listen(0, "127.0.0.1", () => {
    const address = server.address()
    server.close(() => resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : 0)))
  })
})

/** Starts one, until the scope closes. Returns the URL of the same database through it. */
export const start = Effect.fnUntraced(function* (url: Redacted.Redacted) {
  const server = new URL(Redacted.value(url))
  const port = yield* freePort
  const directory = yield* Effect.acquireRelease(
    Effect.sync(() => fs.mkdtempSync(join(tmpdir(), "surety-pgbouncer-"))),
    (directory) => Effect.sync(() => fs.rmSync(directory, { recursive: true, force: true }))
  )
  const users = join(directory, "users.txt")
  const config = join(directory, "pgbouncer.ini")
  fs.writeFileSync(users, `"${decodeURIComponent(server.username)}" "${decodeURIComponent(server.password)}"\n`)
  fs.writeFileSync(
    config,
    `[databases]
* = host=${server.hostname} port=${server.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = plain
auth_file = ${users}
pool_mode = transaction
default_pool_size = 10
max_client_conn = 200
ignore_startup_parameters = default_transaction_isolation, extra_float_digits
`
  )
  // It refuses to run as root.
  fs.chmodSync(directory, 0o755)
  const account = process.getuid?.() === 0 ? ["-u", "nobody"] : []
  const child = yield* Effect.acquireRelease(
    Effect.sync(() => spawn(command!, [...account, config], { stdio: ["ignore", "ignore", "pipe"] })),
    (child) =>
      Effect.callback<void>((resume) => {
        if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
        child.once("exit", () => resume(Effect.void))
        child.kill("SIGKILL")
      })
  )
  yield* Effect.callback<void>((resume) => {
    let log = ""
    child.stderr.on("data", (data) => {
      log += data
      if (log.includes("process up")) resume(Effect.void)
    })
    child.once("exit", () => resume(Effect.die(new Error(`pgbouncer ended: ${log}`))))
  })
  const through = new URL(server)
  through.hostname = "127.0.0.1"
  through.port = String(port)
  return Redacted.make(through.href)
})
