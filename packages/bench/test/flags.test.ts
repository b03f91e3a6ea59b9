import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Console, Effect, Exit } from "effect"
import { Command } from "effect/cli"
import { flags, type Options, selects } from "../src/flags.ts"
import { workloads } from "../src/workloads/index.ts"

const names = workloads.map(({ name }) => name)

/** What a command line is understood as, and what is said of one that is not. */
const parse = (...args: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    let found: Options | undefined
    const said: Array<string> = []
    const console_ = new Proxy(console, { get: () => (text: string) => said.push(text) })
    const command = Command.make("bench", flags(names, ["surety", "hand-written"]), (options) =>
      Effect.sync(() => {
        found = options
      })
    )
    const exit = yield* Command.runWith(command, { version: "0" })(args).pipe(
      Effect.provideService(Console.Console, console_),
      Effect.exit
    )
    return Exit.isSuccess(exit) ? found : said.join("\n")
  }).pipe(Effect.provide(NodeServices.layer))

const defaults: Options = { quick: false, json: false, only: [], system: [] }

describe("the flags", () => {
  it.effect.each<readonly [args: string, options: Options]>([
    ["", defaults],
    ["--quick --json", { ...defaults, quick: true, json: true }],
    ["--only publish-each --only consume", { ...defaults, only: ["publish-each", "consume"] }],
    ["--only publish --system surety", { ...defaults, only: ["publish"], system: ["surety"] }]
  ])("understands %j", ([args, options]) =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* parse(...args.split(" ").filter((arg) => arg !== "")), options)
    })
  )

  it.effect.each<readonly [args: string, said: string]>([
    ["--only publsh", 'There is no workload "publsh". There are publish-each'],
    ["--only", "--only"],
    ["--system rabbit", "rabbit"],
    ["--quck", "--quck"],
    ["--json=maybe", "maybe"]
  ])("refuses %j, and says why", ([args, said]) =>
    Effect.gen(function* () {
      const answer = yield* parse(...args.split(" "))
      if (typeof answer !== "string") return assert.fail(`understood as ${JSON.stringify(answer)}`)
      assert.include(answer, said)
    })
  )

  it("select by the beginning of a name, at a hyphen", () => {
    assert.deepStrictEqual(
      names.filter((name) => selects(["publish"], name)),
      ["publish-each", "publish-transaction", "publish-batch"]
    )
    assert.isTrue(selects([], "consume"))
    assert.isFalse(selects(["pub"], "publish-each"))
  })
})
