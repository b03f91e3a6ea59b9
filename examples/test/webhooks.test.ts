import * as fs from "node:fs"
import * as os from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as TestPostgres from "@surety/testing/TestPostgres"
import { Effect, Redacted } from "effect"
import { run, start } from "./support/program.ts"

const main = "examples/src/webhooks/main.ts"

/** Whole runs take their time where the machine is busy. */
const patient = { timeout: 180_000 }

/** What the demo says once deliveries are on their way. */
const midway = /^[1-9]\d* requests sent, [1-9]\d* deliveries applied/

const result = (stdout: ReadonlyArray<string>) => JSON.parse(stdout.at(-1) ?? "") as Record<string, number>

describe("the demo", () => {
  it.live(
    "loses nothing and applies nothing twice while workers are killed",
    () =>
      Effect.gen(function* () {
        const { code, stderr, stdout } = yield* run([main, "--deliveries", "300", "--kills", "3", "--json"])
        assert.strictEqual(code, 0, stderr.join("\n"))
        const { perSecond, sent, ...rest } = result(stdout)
        assert.deepStrictEqual(rest, {
          distinct: 300,
          applied: 296,
          lost: 0,
          twice: 0,
          duplicatesSkipped: 60,
          deadLettered: 4
        })
        assert.isAtLeast(sent!, 360)
        assert.isAbove(perSecond!, 0)
        assert.match(stdout.join("\n"), /workers killed +3 /)
      }),
    patient
  )

  it.live(
    "shows the duplicates without the inbox, and fails",
    () =>
      Effect.gen(function* () {
        const { code, stdout } = yield* run([main, "--deliveries", "200", "--kills", "1", "--without-inbox", "--json"])
        assert.strictEqual(code, 1)
        const { lost, twice } = result(stdout)
        assert.strictEqual(lost, 0)
        assert.isAtLeast(twice!, 30)
        assert.match(stdout.join("\n"), /Without the inbox \d+ deliveries were applied more than once/)
      }),
    patient
  )

  it.live.each([
    ["--deliveries", "many"],
    ["--unknown", "1"]
  ])("refuses %s %s, and says how it is used", (flags) =>
    Effect.gen(function* () {
      const { code, stderr, stdout } = yield* run([main, ...flags])
      assert.strictEqual(code, 1)
      assert.include(stderr.join("\n"), flags[0])
      assert.include([...stdout, ...stderr].join("\n"), "npm start -- [flags]")
    })
  )
})

/** A directory for temporary files that is the test's alone, and that every account can enter. */
const temporaryDirectory = Effect.acquireRelease(
  Effect.sync(() => {
    const directory = fs.mkdtempSync(join(os.tmpdir(), "surety-demo-"))
    fs.chmodSync(directory, 0o755)
    return directory
  }),
  (directory) => Effect.sync(() => fs.rmSync(directory, { recursive: true, force: true }))
)

describe("the demo, when it is interrupted", () => {
  it.live(
    "ends at Ctrl-C, and leaves neither processes nor files",
    () =>
      Effect.gen(function* () {
        const TMPDIR = yield* temporaryDirectory
        const program = yield* start([main], { DATABASE_URL: undefined, TMPDIR })
        yield* program.line(midway)
        assert.notDeepEqual(fs.readdirSync(TMPDIR), [])
        program.process.kill("SIGINT")
        // The receiver and the workers write to the same standard error: it is closed once they are gone.
        const { code, stdout } = yield* program.ended.pipe(Effect.timeout("20 seconds"))
        assert.strictEqual(code, 130)
        assert.deepStrictEqual(stdout, [])
        assert.deepStrictEqual(fs.readdirSync(TMPDIR), [])
      }),
    patient
  )

  it.live(
    "takes its processes with it when it is killed",
    () =>
      Effect.gen(function* () {
        const program = yield* start([main])
        yield* program.line(midway)
        program.process.kill("SIGKILL")
        const { signal } = yield* program.ended.pipe(Effect.timeout("20 seconds"))
        assert.strictEqual(signal, "SIGKILL")
      }),
    patient
  )
})

describe("the demo, when PostgreSQL is not there", () => {
  it.live("says that it cannot be reached", () =>
    Effect.gen(function* () {
      const { code, stderr } = yield* run([main], { DATABASE_URL: "postgres://nobody:secret@127.0.0.1:1/none" })
      assert.strictEqual(code, 1)
      assert.include(stderr.join("\n"), "Cannot connect to the server of DATABASE_URL at 127.0.0.1:1")
      assert.notInclude(stderr.join("\n"), "secret")
    })
  )
})

it.layer(TestPostgres.layerEmbedded, { excludeTestServices: true })("the demo, when PostgreSQL goes away", (it) => {
  it.effect(
    "finishes after a crash of the server",
    () =>
      Effect.gen(function* () {
        const { restart, url } = yield* TestPostgres.TestPostgres
        const program = yield* start([main, "--deliveries", "1500", "--kills", "1", "--json"], {
          DATABASE_URL: Redacted.value(url)
        })
        yield* program.line(midway)
        yield* restart("immediate")
        const { code, stderr, stdout } = yield* program.ended
        assert.strictEqual(code, 0, [...stderr, ...stdout].join("\n"))
        const { distinct, lost, twice } = result(stdout)
        assert.deepStrictEqual({ distinct, lost, twice }, { distinct: 1500, lost: 0, twice: 0 })
      }),
    patient
  )

  it.effect(
    "ends with a clear error when the server does not come back",
    () =>
      Effect.gen(function* () {
        const { start: startServer, stop, url } = yield* TestPostgres.TestPostgres
        const program = yield* start([main, "--deliveries", "1500", "--kills", "0", "--json"], {
          DATABASE_URL: Redacted.value(url),
          WEBHOOK_PATIENCE: "2 seconds"
        })
        yield* program.line(midway)
        yield* stop("immediate")
        const { code, stderr, stdout } = yield* program.ended
        yield* startServer
        assert.strictEqual(code, 1)
        assert.match(stderr.join("\n"), /What came of the deliveries cannot be told: .* for 2s/)
        assert.deepStrictEqual(stdout, [])
      }),
    patient
  )
})
