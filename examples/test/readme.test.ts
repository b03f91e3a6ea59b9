import { existsSync, globSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import { Producer, Topic } from "@surety/core"
import * as SuretyPg from "@surety/pg/SuretyPg"
import * as TestPostgres from "@surety/testing/TestPostgres"
import { Effect, Layer, Redacted, Schedule, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { untilSettled } from "../src/support/untilSettled.ts"
import { start } from "./support/program.ts"

const root = new URL("../..", import.meta.url)
const read = (path: string) => readFileSync(new URL(path, root), "utf8")

const readme = read("README.md")
const blocks = Array.from(readme.matchAll(/^```(\w+)\n(.*?)^```$/gms), ([, language, code]) => ({ language, code }))
const spans = Array.from(readme.replaceAll(/^```.*?^```$/gms, "").matchAll(/`([^`]+)`/g), ([, code]) => code!)

describe("the README", () => {
  it("shows the example that is compiled, and run below", () => {
    const shown = blocks.filter(({ language }) => language === "ts").map(({ code }) => code)
    assert.deepStrictEqual(shown, [read("examples/src/readme/ledger.ts")])
  })

  it("names no command that is not a script of the repository", () => {
    const { scripts } = JSON.parse(read("package.json")) as { scripts: Record<string, string> }
    const shown = [...spans, ...blocks.filter(({ language }) => language === "sh").map(({ code }) => code!)].join("\n")
    const commands = Array.from(shown.matchAll(/\bnpm (?:run )?([a-z:]+)/g), ([, command]) => command)
    assert.includeMembers(commands, ["ci", "start", "test", "example", "check", "build"])
    assert.includeMembers([...Object.keys(scripts), "ci"], commands)
  })

  it("names every example, and no other", () => {
    const names = globSync(["*.ts", "*/main.ts"], { cwd: fileURLToPath(new URL("examples/src", root)) }).map((path) =>
      path.replace(/(\/main|\.test)?\.ts$/, "")
    )
    const listed = Array.from(readme.matchAll(/^- `([a-z-]+)`:/gm), ([, name]) => name)
    assert.deepStrictEqual(listed.sort(), names.sort())
  })

  it("links to what there is", () => {
    const links = Array.from(readme.matchAll(/\]\((?!https?:)([^)]+)\)/g), ([, path]) => path!)
    assert.isNotEmpty(links)
    assert.deepStrictEqual(
      links.filter((path) => !existsSync(new URL(path, root))),
      []
    )
  })
})

it.layer(TestPostgres.layer, { excludeTestServices: true })("the README's example", (it) => {
  it.effect("books a payment that is published twice once", () =>
    Effect.gen(function* () {
      const { url } = yield* Effect.flatMap(TestPostgres.TestPostgres, ({ createDatabase }) => createDatabase())
      const Payments = Topic.make("payments", {
        schema: Schema.Struct({ id: Schema.String, account: Schema.String, amount: Schema.Int }),
        guarantee: "exactly-once",
        id: ({ id }) => id
      })
      yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql`CREATE TABLE account (id text PRIMARY KEY, balance int NOT NULL)`
        yield* sql`INSERT INTO account VALUES ('ada', 10)`
        const payment = { id: "1", account: "ada", amount: 5 }
        yield* Producer.publishAll(Payments, [payment, payment, { ...payment, id: "2" }])
        const ledger = yield* start(["examples/src/readme/ledger.ts"], { DATABASE_URL: Redacted.value(url) })
        // Until it has joined, there is no group to ask for.
        yield* Effect.retry(untilSettled(Payments, "ledger"), Schedule.spaced("50 millis"))
        assert.deepStrictEqual(yield* sql`SELECT balance FROM account`, [{ balance: 20 }])
        ledger.process.kill("SIGINT")
        const { code, stderr, stdout } = yield* ledger.ended
        assert.deepStrictEqual({ code, stderr, stdout }, { code: 130, stderr: [], stdout: [] })
      }).pipe(Effect.provide(SuretyPg.layer.pipe(Layer.provideMerge(PgClient.layer({ url })))))
    })
  )
})
