/** A broker as a child process, which is gone, with its data, when this process is. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import * as fs from "node:fs"
import { createServer, type Socket } from "node:net"
import * as os from "node:os"
import { join } from "node:path"
import { TestKafkaError } from "../../TestKafkaError.ts"
import { brokerJars } from "./cache.ts"
import { type KeyStore, type Listener, logging, properties, type Sasl } from "./settings.ts"

export interface BrokerOptions {
  /** Of the first listener; a free one where it is not given. */
  readonly port?: number | undefined
  /** Listeners beside the first one, by the ports that clients are told to use. */
  readonly advertised?: ReadonlyArray<number> | undefined
  readonly sasl?: Sasl | undefined
  readonly tls?: boolean | undefined
  readonly settings?: Readonly<Record<string, string>> | undefined
}

/** How a broker is stopped: `clean` writes everything down, `hard` is `kill -9`. */
export type StopMode = "clean" | "hard"

/** Ports that are free now. */
export const freePorts = async (count: number): Promise<ReadonlyArray<number>> => {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"))
  await Promise.all(servers.map((server) => once(server, "listening")))
  const ports = servers.map((server) => (server.address() as { readonly port: number }).port)
  await Promise.all(servers.map((server) => new Promise((closed) => server.close(closed))))
  return ports
}

const java = [
  ...["-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true"],
  ...["-cp", join(brokerJars, "*")]
]

const run = (what: string, command: string, args: ReadonlyArray<string>): string => {
  const { error, status, stderr, stdout } = spawnSync(command, args, { encoding: "utf8" })
  if (status === 0) return stdout
  const message = `${what}: ${error?.message ?? `${stdout}${stderr}`}`
  throw new TestKafkaError({ reason: "StartFailed", message })
}

/** A key for 127.0.0.1 that has signed itself. */
const makeKeyStore = (path: string): KeyStore => {
  const store = ["-alias", "broker", "-keystore", path, "-storetype", "PKCS12", "-storepass", "for-tests"]
  const key = ["-keyalg", "EC", "-groupname", "secp256r1", "-dname", "CN=127.0.0.1", "-ext", "SAN=ip:127.0.0.1"]
  const what = "the broker's key could not be made"
  run(what, "keytool", ["-genkeypair", ...key, "-validity", "2", ...store])
  return { path, password: "for-tests", certificate: run(what, "keytool", ["-exportcert", "-rfc", ...store]) }
}

/** Ends the broker and removes its data when the pipe to this process breaks, also by `kill -9`. */
const watchdog = 'cat > /dev/null; kill -9 "$1" 2> /dev/null; rm -rf "$2"'

export class Broker {
  readonly directory: string
  readonly listeners: ReadonlyArray<Listener>
  /** Whom its clients must trust, in PEM, where it demands TLS. */
  certificate: string | undefined
  #process: ChildProcess | undefined
  #watchdog: ChildProcess | undefined

  private constructor(directory: string, listeners: ReadonlyArray<Listener>) {
    this.directory = directory
    this.listeners = listeners
  }

  static async make(options: BrokerOptions): Promise<Broker> {
    const directory = fs.mkdtempSync(join(os.tmpdir(), "surety-kafka-"))
    const advertised = options.advertised ?? []
    const [first, controllerPort, ...others] = await freePorts(2 + advertised.length)
    const listeners = [
      { port: options.port ?? first! },
      ...others.map((port, index) => ({ port, advertised: advertised[index] }))
    ]
    const broker = new Broker(directory, listeners)
    try {
      broker.#prepare(controllerPort!, options)
    } catch (error) {
      broker.remove()
      throw error
    }
    return broker
  }

  #prepare(controllerPort: number, { sasl, settings = {}, tls }: BrokerOptions): void {
    const { directory, listeners } = this
    const keyStore = tls === true ? makeKeyStore(this.#file("keys.p12")) : undefined
    this.certificate = keyStore?.certificate
    const config = this.#file("server.properties")
    fs.writeFileSync(config, properties({ directory, controllerPort, listeners, sasl, keyStore, settings }))
    fs.writeFileSync(this.#file("log4j2.properties"), logging)
    const id = Buffer.from(crypto.randomUUID().replaceAll("-", ""), "hex").toString("base64url").replace(/^-/, "A")
    const format = ["kafka.tools.StorageTool", "format", "-t", id, "-c", config]
    run("the broker's storage could not be prepared", "java", [...this.#java, ...format])
  }

  get port(): number {
    return this.listeners[0]!.port
  }

  get running(): boolean {
    return this.#process !== undefined && this.#process.exitCode === null && this.#process.signalCode === null
  }

  /** What the broker has printed last. */
  get tail(): string {
    return fs.readFileSync(this.#file("log"), "utf8").split("\n").slice(-20).join("\n")
  }

  get #java(): ReadonlyArray<string> {
    return [`-Dlog4j2.configurationFile=${this.#file("log4j2.properties")}`, ...java]
  }

  #file(name: string): string {
    return join(this.directory, name)
  }

  start(): void {
    if (this.running) return
    const log = fs.openSync(this.#file("log"), "a")
    // In a process group of its own: Ctrl-C is for us to handle.
    const broker = spawn("java", [...this.#java, "kafka.Kafka", this.#file("server.properties")], {
      detached: true,
      stdio: ["ignore", log, log]
    })
    fs.closeSync(log)
    const watching = spawn("sh", ["-c", watchdog, "sh", `${broker.pid}`, this.directory], {
      detached: true,
      stdio: ["pipe", "ignore", "ignore"]
    })
    broker.unref()
    watching.unref()
    // A pipe is a socket, which keeps the process alive.
    ;(watching.stdin as Socket).unref()
    this.#process = broker
    this.#watchdog = watching
  }

  async stop(mode: StopMode): Promise<void> {
    const broker = this.#process
    if (broker === undefined || !this.running) return
    const exited = once(broker, "exit")
    broker.ref()
    this.#watchdog?.kill("SIGKILL")
    broker.kill(mode === "clean" ? "SIGTERM" : "SIGKILL")
    await exited
  }

  remove(): void {
    fs.rmSync(this.directory, { recursive: true, force: true })
  }
}
