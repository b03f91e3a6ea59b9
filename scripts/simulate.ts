/**
 * Runs the scenarios of the simulation over many seeds, on all cores.
 *
 *   npm run simulate -- [--runs N] [--scenario NAME] [--seed N] [--once] [--digest [--against FILE]] [--jobs N] [--json]
 *     [--html DIRECTORY]
 *
 * `--once` runs each seed once instead of twice; `--digest` prints a digest of all histories, to compare machines and
 * versions; `--against` compares it with that of another process, whose `--json` is in the file; `--html` writes a page for
 * each failure.
 */
import { createHash } from "node:crypto"
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { availableParallelism } from "node:os"
import { join } from "node:path"
import process from "node:process"
import { parseArgs } from "node:util"
import { isMainThread, parentPort, Worker } from "node:worker_threads"
import * as Simulation from "@surety/testing/Simulation"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { scenarios } from "../packages/testing/src/internal/scenarios/index.ts"

/** Some seeds of a scenario. */
interface Chunk {
  readonly scenario: string
  readonly seed: number
  readonly runs: number
  readonly once: boolean
  readonly digest: boolean
  readonly corpus: boolean
}

interface Result {
  readonly chunk: Chunk
  readonly events: number
  readonly millis: number
  readonly digest: string | undefined
  readonly failure: { readonly seed: number; readonly text: string; readonly html: string } | undefined
}

const chunkSize = 200

const runChunk = async (chunk: Chunk): Promise<Result> => {
  const { app, options } = scenarios.find(({ name }) => name === chunk.scenario)!
  const begin = process.threadCpuUsage()
  const { runs, seed } = chunk
  const done = (events: number, digest?: string, failed?: Simulation.SimulationFailed): Result => {
    const { system, user } = process.threadCpuUsage(begin)
    const failure = failed && { seed: failed.seed, text: failed.message, html: failed.html }
    return { chunk, events, millis: (user + system) / 1000, digest, failure }
  }
  if (chunk.digest) {
    const hash = createHash("sha256")
    let events = 0
    for (let n = seed; n < seed + runs; n++) {
      const { history } = await Effect.runPromise(Simulation.run(app, { ...options, seed: n }))
      hash.update(JSON.stringify(history))
      events += history.length
    }
    return done(events, hash.digest("hex"))
  }
  const { corpus, ...others } = options
  const checked = await Effect.runPromiseExit(
    Simulation.check(app, { ...others, ...(chunk.corpus ? { corpus } : {}), seed, runs, twice: !chunk.once })
  )
  if (Exit.isSuccess(checked)) return done(checked.value.events)
  const failed = checked.cause.reasons[0]
  if (failed?._tag !== "Fail") throw new Error("the simulation itself has failed", { cause: checked.cause })
  return done(failed.error.run.history.length, undefined, failed.error)
}

const main = async (): Promise<void> => {
  const { values } = parseArgs({
    options: {
      runs: { type: "string", default: "200" },
      scenario: { type: "string" },
      seed: { type: "string", default: "1" },
      jobs: { type: "string", default: `${availableParallelism()}` },
      html: { type: "string" },
      once: { type: "boolean", default: false },
      digest: { type: "boolean", default: false },
      against: { type: "string" },
      json: { type: "boolean", default: false }
    }
  })
  const [first, runs] = [Number(values.seed), Number(values.runs)]
  const chosen = scenarios.filter(({ name }) => values.scenario === undefined || name === values.scenario)
  if (chosen.length === 0) {
    console.error(`no scenario ${values.scenario}; there are ${scenarios.map(({ name }) => name).join(", ")}`)
    process.exit(2)
  }
  const chunks: Array<Chunk> = chosen.flatMap(({ name }) =>
    Array.from({ length: Math.ceil(runs / chunkSize) }, (_, n) => ({
      scenario: name,
      seed: first + n * chunkSize,
      runs: Math.min(chunkSize, runs - n * chunkSize),
      once: values.once,
      digest: values.digest,
      corpus: n === 0 && values.seed === "1"
    }))
  )
  const begin = performance.now()
  const results: Array<Result> = []
  const waiting = [...chunks]
  await Promise.all(
    Array.from({ length: Math.min(Number(values.jobs), chunks.length) }, async () => {
      const worker = new Worker(new URL(import.meta.url), { resourceLimits: { maxYoungGenerationSizeMb: 64 } })
      for (let chunk = waiting.shift(); chunk !== undefined; chunk = waiting.shift()) {
        results.push(await ask(worker, chunk))
      }
      await worker.terminate()
    })
  )
  const seconds = (performance.now() - begin) / 1000
  const failures = results.flatMap(({ chunk, failure }) => (failure === undefined ? [] : [{ ...failure, chunk }]))
  if (values.html !== undefined) {
    mkdirSync(values.html, { recursive: true })
    for (const { chunk, html, seed } of failures)
      writeFileSync(join(values.html, `${chunk.scenario}-${seed}.html`), html)
  }
  const summary = chosen.map(({ about, name }) => {
    const own = results.filter(({ chunk }) => chunk.scenario === name).sort((a, b) => a.chunk.seed - b.chunk.seed)
    const sum = (of: (result: Result) => number) => own.reduce((total, result) => total + of(result), 0)
    const digests = own.flatMap(({ digest }) => digest ?? [])
    return {
      scenario: name,
      about,
      runs: sum(({ chunk }) => chunk.runs),
      events: sum(({ events }) => events),
      runsPerCpuSecond: Math.round((sum(({ chunk }) => chunk.runs) / sum(({ millis }) => millis)) * 1000),
      failed: failures.filter(({ chunk }) => chunk.scenario === name).map(({ seed }) => seed),
      ...(digests.length === 0 ? {} : { digest: createHash("sha256").update(digests.join()).digest("hex") })
    }
  })
  if (values.json) {
    console.log(JSON.stringify({ seconds, scenarios: summary, failures: failures.map(({ text }) => text) }))
  } else {
    for (const { failed, runs, runsPerCpuSecond, scenario, ...rest } of summary) {
      const digest = "digest" in rest ? `  ${rest.digest}` : ""
      console.log(
        `${scenario.padEnd(16)} ${`${runs}`.padStart(7)} runs  ${`${runsPerCpuSecond}`.padStart(5)}/s of one core  ${failed.length === 0 ? "ok" : `FAILED ${failed}`}${digest}`
      )
    }
    for (const { text } of failures.slice(0, 3)) console.log(`\n${text}`)
    console.log(`${chosen.length} scenarios in ${seconds.toFixed(1)} s, ${failures.length} failures`)
  }
  const other = values.against === undefined ? [] : digestsIn(readFileSync(values.against, "utf8"))
  const different = other.filter(({ digest, runs, scenario }) => {
    const own = summary.find((one) => one.scenario === scenario)
    return own === undefined || own.runs !== runs || !("digest" in own) || own.digest !== digest
  })
  for (const { scenario } of different) console.error(`${scenario}: not the histories of ${values.against}`)
  process.exit(failures.length + different.length === 0 ? 0 : 1)
}

/** What another process has printed, by npm too. */
const digestsIn = (output: string): ReadonlyArray<{ scenario: string; runs: number; digest: string }> =>
  JSON.parse(output.split("\n").find((line) => line.startsWith("{"))!).scenarios

const ask = (worker: Worker, chunk: Chunk): Promise<Result> =>
  new Promise((resolve, reject) => {
    worker.once("error", reject)
    worker.once("message", (result: Result) => {
      worker.off("error", reject)
      resolve(result)
    })
    worker.postMessage(chunk)
  })

if (isMainThread) await main()
else parentPort!.on("message", async (chunk: Chunk) => parentPort!.postMessage(await runChunk(chunk)))
