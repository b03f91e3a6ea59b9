import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Console, Effect, Exit } from "effect"
import { Command } from "effect/cli"
import { flags, type Options } from "../src/webhooks/options.ts"

const silent = new Proxy(console, { get: () => () => {} })

/** What a command line is understood as. */
const parse = (...args: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    let found: Options | undefined
    const command = Command.make("demo", flags, (options) =>
      Effect.sync(() => {
        found = options
      })
    )
    const exit = yield* Effect.exit(Command.runWith(command, { version: "0" })(args))
    return Exit.isSuccess(exit) ? found : "refused"
  }).pipe(Effect.provideService(Console.Console, silent), Effect.provide(NodeServices.layer))

const defaults: Options = { deliveries: 5000, kills: 5, workers: 2, json: false, withoutInbox: false }

describe("the options", () => {
  it.effect.each<readonly [args: string, options: Options]>([
    ["", defaults],
    ["--deliveries 1 --kills 0 --workers 1", { ...defaults, deliveries: 1, kills: 0, workers: 1 }],
    ["--deliveries=100000 --kills=100 --workers=16", { ...defaults, deliveries: 100_000, kills: 100, workers: 16 }],
    ["--json --without-inbox", { ...defaults, json: true, withoutInbox: true }]
  ])("understands %j", ([args, options]) =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* parse(...args.split(" ").filter((arg) => arg !== "")), options)
    })
  )

  it.effect.each([
    "--deliveries 0",
    "--deliveries 100001",
    "--deliveries -5",
    "--deliveries 1.5",
    "--deliveries many",
    "--deliveries",
    "--kills -1",
    "--kills 101",
    "--workers 0",
    "--workers 17",
    "--json=maybe",
    "--without-outbox",
    "5000"
  ])("refuses %j", (args) =>
    Effect.gen(function* () {
      assert.strictEqual(yield* parse(...args.split(" ")), "refused")
    })
  )
})
