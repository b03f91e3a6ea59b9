/**
 * The copy test, as Kafka itself makes it: three members copy numbered messages
 * from one topic to another in transactions, while members and the broker are
 * ended, hard and clean, and others read what is committed. Afterwards every
 * message is in the copy, once, in the order of its key.
 *
 *     npm run kafka:copy -- [--messages 100000] [--bounces 3] [--json]
 */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { Producer, Transport } from "@surety/core"
import * as TestKafka from "@surety/testing/TestKafka"
import { Effect } from "effect"
import { Reader } from "./copyReader.ts"
import { copies, layerCopy, type MemberOptions, partitions } from "./copyTopics.ts"

const { values } = parseArgs({
  options: {
    messages: { type: "string", default: "100000" },
    bounces: { type: "string", default: "3" },
    json: { type: "boolean", default: false }
  }
})
const total = Number(values.messages)
const bounces = Number(values.bounces)
const keys = 90
const run = crypto.randomUUID().slice(0, 8)
const { from, to } = copies(run)
const say = (line: string): void => {
  if (!values.json) console.log(line)
}

const sizes: Array<number> = []

/** A member, started again whenever it was ended. */
class Member {
  readonly #options: MemberOptions
  #process: ChildProcess

  constructor(options: MemberOptions) {
    this.#options = options
    this.#process = this.#start()
  }

  #start(): ChildProcess {
    const program = fileURLToPath(new URL("copyMember.ts", import.meta.url))
    const child = spawn(process.execPath, [program, JSON.stringify(this.#options)], {
      stdio: ["pipe", "pipe", "inherit"]
    })
    // What is no size is the log of a member that has ended by itself.
    createInterface(child.stdout).on("line", (line) =>
      /^\d+$/.test(line) ? sizes.push(Number(line)) : console.error(line)
    )
    return child
  }

  async bounce(signal: "SIGKILL" | "SIGTERM"): Promise<void> {
    await this.end(signal)
    this.#process = this.#start()
  }

  async end(signal: "SIGKILL" | "SIGTERM"): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) {
      throw new Error(`a member has ended by itself (${this.#process.exitCode ?? this.#process.signalCode})`)
    }
    const ended = once(this.#process, "exit")
    this.#process.kill(signal)
    await ended
  }
}

const publish = Effect.gen(function* () {
  const size = 2_000
  for (let sent = 0; sent < total; sent += size) {
    const numbered = Array.from({ length: Math.min(size, total - sent) }, (_, index) => {
      const place = sent + index
      return { key: `key-${place % keys}`, number: Math.floor(place / keys) }
    })
    yield* Producer.publishAll(from, numbered)
  }
})

/** In turn, each as often as asked for: members and the broker, hard and clean. */
const kinds = ["member hard", "broker clean", "member clean", "broker hard"] as const

const program = Effect.gen(function* () {
  const kafka = yield* TestKafka.TestKafka
  const servers = kafka.bootstrapServers
  yield* publish.pipe(Effect.provide(layerCopy({ bootstrapServers: servers, name: `publisher-${run}` })))
  say(`published ${total} messages of ${keys} keys to ${partitions} partitions`)
  const began = Date.now()
  const members = [500, 625, 750].map(
    (batch, index) => new Member({ run, name: `member-${run}-${index}`, servers, batch, holdMillis: 250 })
  )
  // Made by the members, if they are the first.
  yield* Effect.scoped(
    Effect.flatMap(Transport.Transport, ({ declare }) => declare({ name: to.name, partitions })).pipe(
      Effect.provide(layerCopy({ bootstrapServers: servers, name: `declarer-${run}` }))
    )
  )
  const reader = yield* Effect.promise(() => Reader.start(servers, to.name, `concurrent-${run}`))
  const done = Object.fromEntries(kinds.map((kind) => [kind, 0])) as Record<(typeof kinds)[number], number>
  const steps = kinds.length * bounces
  for (let step = 0; step < steps; step++) {
    yield* Effect.promise(() => reader.until(Math.floor(((step + 1) * total) / (steps + 2))))
    const kind = kinds[step % kinds.length]!
    say(`${reader.read} copied: ${kind}`)
    const member = members[step % members.length]!
    yield* kind === "broker hard"
      ? kafka.restart("hard")
      : kind === "broker clean"
        ? kafka.restart("clean")
        : Effect.promise(() => member.bounce(kind === "member hard" ? "SIGKILL" : "SIGTERM"))
    done[kind]++
  }
  yield* Effect.promise(() => reader.until(total))
  const seconds = (Date.now() - began) / 1000
  yield* Effect.promise(() => Promise.all(members.map((member) => member.end("SIGTERM"))))
  const final = yield* Effect.promise(() => Reader.start(servers, to.name, `final-${run}`))
  yield* Effect.promise(() => final.until(total))
  // What was aborted, or comes late, would be behind.
  yield* Effect.sleep("2 seconds")
  for (const each of [reader, final]) each.stop()
  const counted = ({ duplicated, misordered, read }: Reader) => ({ read, lost: total - read, duplicated, misordered })
  return {
    messages: total,
    seconds,
    bounces: done,
    transactions: {
      begun: sizes.length,
      from500to750: sizes.filter((size) => size >= 500 && size <= 750).length,
      largest: Math.max(...sizes)
    },
    concurrent: counted(reader),
    final: counted(final)
  }
}).pipe(Effect.provide(TestKafka.layerEmbedded))

const result = await Effect.runPromise(program)
const { concurrent, final } = result
const faults = [concurrent, final].flatMap(({ duplicated, lost, misordered }) => [duplicated, lost, misordered])
console.log(JSON.stringify(result, null, values.json ? undefined : 2))
process.exit(faults.every((count) => count === 0) ? 0 : 1)
