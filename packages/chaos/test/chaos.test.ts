/** `npm run chaos`, short: as a user runs it. */
import { spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"

const main = fileURLToPath(new URL("../src/main.ts", import.meta.url))
const { NODE_OPTIONS: _, ...env } = process.env

const run = async (...args: ReadonlyArray<string>) => {
  const child = spawn(process.execPath, [main, ...args], { env, stdio: ["ignore", "pipe", "inherit"] })
  let stdout = ""
  child.stdout.on("data", (chunk) => {
    stdout += chunk
  })
  const [code] = await once(child, "close")
  const result = JSON.parse(stdout.trimEnd().split("\n").at(-1)!)
  return { code, stdout, result }
}

/** A machine that is busy takes its time. */
const timeout = 300_000

describe("npm run chaos", () => {
  it(
    "finds no violation in 20 seconds of faults",
    async () => {
      const { code, result, stdout } = await run("--minutes", "0.33", "--seed", "test", "--json")
      assert.deepStrictEqual(result.violations, [])
      assert.strictEqual(code, 0)
      assert.isAbove(result.handled, 0)
      assert.isAtLeast(result.faults["server restarts"] ?? 0, 1)
      assert.match(stdout, /No violation in \d+ seconds\./)
    },
    timeout
  )

  it(
    "finds what is booked twice without the inbox, and ends with an error as soon as it does",
    async () => {
      // A process has to be killed between its COMMIT and its acknowledgement: a matter of seconds, mostly.
      const { code, result, stdout } = await run("--minutes", "10", "--without-inbox", "--json")
      assert.strictEqual(code, 1)
      assert.isAbove(result.duplicated, 0)
      assert.match(stdout, /Violated: .*duplicated: /)
      // What is kept without it: the acknowledged ones are there, and nothing else is.
      assert.deepStrictEqual([result.lost, result.unexpected], [0, 0])
    },
    3 * timeout
  )
})

describe("flags that are wrong", () => {
  for (const [args, says] of [
    [["--minutes", "0"], /Expected a number from 0\.1 to 1440, got 0/],
    [["--workers", "many"], /workers/],
    [["--transport", "pigeon"], /transport/],
    [["--nonsense"], /nonsense/]
  ] as const) {
    it(
      args.join(" "),
      () => {
        const { status, stderr, stdout } = spawnSync(process.execPath, [main, ...args], { env, encoding: "utf8" })
        assert.strictEqual(status, 1)
        assert.match(stdout + stderr, says)
      },
      timeout
    )
  }
})
