import { readdirSync, readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, References } from "effect"
import { TestClock } from "effect/testing"
import * as Notifications from "../src/at-least-once-notifications.ts"
import { run } from "./support/program.ts"

const example = (...args: ReadonlyArray<string>) => run(["scripts/example.ts", ...args])

describe("npm run example", () => {
  it.live("at-most-once-metrics", () =>
    Effect.gen(function* () {
      const { code, stderr, stdout } = yield* example("at-most-once-metrics")
      assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: [] })
      assert.strictEqual(stdout.length, 1)
      assert.match(stdout[0]!, /^4 page views published, counted:/)
      assert.match(stdout[0]!, /'\/': 2/)
      assert.match(stdout[0]!, /'\/pricing': 1/)
      assert.notMatch(stdout[0]!, /docs/)
    })
  )

  it.live("at-least-once-notifications", () =>
    Effect.gen(function* () {
      const { code, stderr, stdout } = yield* example("at-least-once-notifications")
      assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: [] })
      assert.deepStrictEqual(stdout.filter((line) => line.startsWith("sent")).sort(), [
        "sent to ada@example.com, attempt 3",
        "sent to grace@example.com, attempt 3"
      ])
      assert.strictEqual(stdout.at(-1), "dead letters: [ 'nobody@example.org: NoSuchAddress' ]")
    })
  )

  it.live("exactly-once-payments", () =>
    Effect.gen(function* () {
      const { code, stderr, stdout } = yield* example("exactly-once-payments")
      assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: [] })
      assert.match(stdout.join("\n"), /'all together' │ 0 /)
    })
  )

  it.live("explain, without a database", () =>
    Effect.gen(function* () {
      const env = { DATABASE_URL: "postgres://nobody@127.0.0.1:1/nothing" }
      const { code, stderr, stdout } = yield* run(["scripts/example.ts", "explain"], env)
      assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: [] })
      assert.deepStrictEqual(
        stdout.filter((line) => /^\S/.test(line)),
        [
          "logins@Audit: best-effort, below the declared at-least-once",
          "payments: exactly-once, as declared",
          "receipts: exactly-once, as declared",
          'check: "logins@Audit" is to be at-least-once, but is best-effort: Transport.layerMemory: loss when the process' +
            " ends, and everything in its memory with it; raised by PgTransport.layer of @surety/pg"
        ]
      )
      assert.notInclude(stdout.join(""), "\x1b")

      // The README shows parts of it.
      const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8")
      const [, shown] = /^```text\n(payments: .*?)\n```$/ms.exec(readme)!
      let next = stdout.indexOf("payments: exactly-once, as declared")
      for (const line of shown!.split("\n").filter((line) => line !== "  ...")) {
        const found = stdout.indexOf(line, next)
        assert.notStrictEqual(found, -1, line)
        next = found + 1
      }
    })
  )

  for (const name of ["simulate-your-handler", "test-with-testclock"]) {
    it.live(name, () =>
      Effect.gen(function* () {
        const { code, stdout } = yield* example(name)
        assert.strictEqual(code, 0)
        assert.match(stdout.join("\n"), /2 passed/)
      })
    )
  }

  it.live("webhooks, with options", () =>
    Effect.gen(function* () {
      const { code, stdout } = yield* example("webhooks", "--help")
      assert.strictEqual(code, 0)
      assert.include(stdout.join("\n"), "--without-inbox")
    })
  )

  it.live("with a name that there is not, names those that there are", () =>
    Effect.gen(function* () {
      const { code, stderr } = yield* example("exactly-twice")
      assert.strictEqual(code, 1)
      assert.strictEqual(stderr[0], 'There is no example "exactly-twice".')
      const listed = stderr.filter((line) => line.startsWith("  ")).map((line) => line.trim())
      const files = readdirSync(new URL("../src", import.meta.url)).filter((name) => name.endsWith(".ts"))
      const names = files.map((name) => name.replace(/(\.test)?\.ts$/, ""))
      assert.deepStrictEqual(listed, [...names, "order-fulfilment", "two-ledgers", "webhooks"].sort())
    })
  )
})

describe("the notifications example", () => {
  it.effect("dead-letters what a mail server that stays busy never takes, after nine attempts", () =>
    Effect.gen(function* () {
      const { ServerBusy } = Notifications
      let tries = 0
      const server = Notifications.MailServer.of({
        send: () =>
          Effect.andThen(
            Effect.sync(() => tries++),
            Effect.fail(new ServerBusy())
          )
      })
      const fiber = yield* Effect.forkChild(
        Notifications.program.pipe(
          Effect.provideService(Notifications.MailServer, server),
          Effect.provideService(References.MinimumLogLevel, "Error")
        )
      )
      yield* TestClock.adjust("1 minute")
      const letters = yield* Fiber.join(fiber)
      assert.deepStrictEqual(
        letters.map(({ attempts, failure }) => [failure.tag, attempts]),
        [
          ["ServerBusy", 9],
          ["ServerBusy", 9],
          ["ServerBusy", 9]
        ]
      )
      assert.strictEqual(tries, 27)
    })
  )
})
