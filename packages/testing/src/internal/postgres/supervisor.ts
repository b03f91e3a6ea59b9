/**
 * The process between us and a PostgreSQL server: it starts the server, and ends
 * it and removes its files when its parent closes the channel or is gone, however
 * the parent died. It is the program of a process of its own, and plain Node, so
 * that it starts in a few hundredths of a second.
 *
 * Its limit: when this process itself is killed with SIGKILL, the server stays.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { chownSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { join } from "node:path"
import { createInterface } from "node:readline"
import * as Placement from "./placement.ts"
import { type Command, Failure, type Reply, type ServerOptions, type StopMode } from "./protocol.ts"

interface Created {
  readonly options: ServerOptions
  readonly account: Placement.Account | undefined
  readonly binaries: string
  readonly data: string
  port: number
}

let directory: string | undefined
let created: Created | undefined
let running: ChildProcess | undefined
let closing = false

// Nothing of the caller's environment may change what the server does: PGDATA, PGPORT, LANG, TZ, …
const environment = { PATH: process.env.PATH, LC_ALL: "C", TZ: "UTC" }

const isAlive = (child: ChildProcess) => child.pid !== undefined && child.exitCode === null && child.signalCode === null

const launch = (file: string, args: ReadonlyArray<string>, account: Placement.Account | undefined) => {
  if (closing) throw new Failure("StartFailed", "The server was closed while it started.")
  const child = spawn(file, args, {
    ...account,
    cwd: directory,
    env: environment,
    stdio: ["ignore", "pipe", "pipe"]
  })
  running = child
  const output: Array<string> = []
  const collect = (line: string) => {
    output.push(line)
    if (output.length > 40) output.shift()
  }
  const errors = createInterface(child.stderr!)
  createInterface(child.stdout!).on("line", collect)
  errors.on("line", collect)
  return { child, errors, output, exited: once(child, "close") }
}

const initdb = async ({ account, binaries, data, options }: Created) => {
  const passwordFile = join(directory!, "password")
  writeFileSync(passwordFile, options.password, { mode: 0o600 })
  if (account !== undefined) chownSync(passwordFile, account.uid, account.gid)
  const { child, exited, output } = launch(
    join(binaries, "bin", "initdb"),
    [
      `--pgdata=${data}`,
      `--username=${options.username}`,
      `--pwfile=${passwordFile}`,
      "--auth=scram-sha-256",
      "--encoding=UTF8",
      "--locale=C",
      "--no-sync",
      "--no-instructions"
    ],
    account
  )
  await exited
  rmSync(passwordFile, { force: true })
  if (child.exitCode !== 0) {
    throw new Failure("InitdbFailed", `initdb failed (${child.exitCode ?? child.signalCode}):\n${output.join("\n")}`)
  }
}

// Below the range from which Linux and macOS give ports to outgoing connections, so that a stopped server's port stays free.
const pickPort = async (): Promise<number> => {
  const port = 20_000 + Math.floor(Math.random() * 12_000)
  const probe = createServer().listen(port, "127.0.0.1")
  try {
    await once(probe, "listening")
  } catch {
    return pickPort()
  }
  probe.close()
  await once(probe, "close")
  return port
}

const start = async ({ account, binaries, data, options, port }: Created) => {
  if (running !== undefined && isAlive(running)) return
  const { child, errors, exited, output } = launch(
    join(binaries, "bin", "postgres"),
    [
      ["-D", data],
      ["-p", String(port)],
      ...Object.entries(options.settings).map(([name, value]) => ["-c", `${name}=${value}`])
    ].flat(),
    account
  )
  const ready = new Promise<boolean>((resolve) => {
    errors.on("line", (line) => line.includes("ready to accept connections") && resolve(true))
    exited.then(
      () => resolve(false),
      () => resolve(false)
    )
  })
  if (!(await ready)) {
    throw new Failure(
      "StartFailed",
      `PostgreSQL did not start (${child.exitCode ?? child.signalCode}):\n${output.join("\n")}`
    )
  }
}

const signals = { fast: "SIGINT", immediate: "SIGQUIT" } as const

const stop = async (mode: StopMode) => {
  if (running === undefined || !isAlive(running)) return
  const exited = once(running, "exit")
  running.kill(signals[mode])
  await exited
}

const create = async (options: ServerOptions) => {
  const account = Placement.findAccount()
  directory = Placement.makeDirectory(account)
  const binaries = Placement.placeBinaries(options.binaries, directory, account)
  created = { options, account, binaries, data: join(directory, "data"), port: await pickPort() }
  await initdb(created)
  for (let attempt = 1; ; attempt++) {
    try {
      return await start(created)
    } catch (error) {
      const isTaken = error instanceof Failure && error.message.includes("Address already in use")
      if (!isTaken || attempt === 5) throw error
      created.port = await pickPort()
    }
  }
}

const execute = async (command: Command) => {
  if (command._tag === "Create") return create(command.options)
  if (command._tag === "Stop") return stop(command.mode)
  if (created !== undefined) return start(created)
}

const close = async () => {
  if (closing) return
  closing = true
  if (running !== undefined && isAlive(running)) {
    const server = running
    const exited = once(server, "exit")
    const isInitdb = server.spawnargs[0]?.endsWith("initdb") === true
    // `initdb` is waited for: killed, it would leave a child behind that still writes.
    if (!isInitdb) server.kill("SIGINT")
    setTimeout(() => server.kill("SIGQUIT"), 5_000).unref()
    setTimeout(() => server.kill("SIGKILL"), 10_000).unref()
    await exited
  }
  if (directory !== undefined) rmSync(directory, { recursive: true, force: true, maxRetries: 5 })
  process.exit(0)
}

const reply = (message: Reply) => {
  if (process.connected) process.send!(message, () => {})
}

process.on("message", (command: Command) => {
  execute(command).then(
    () => reply({ _tag: "Done", port: created?.port ?? 0 }),
    (error: unknown) =>
      reply({
        _tag: "Failed",
        reason: error instanceof Failure ? error.reason : "SupervisorFailed",
        message: error instanceof Error ? error.message : String(error)
      })
  )
})
process.on("disconnect", close)
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, close)
