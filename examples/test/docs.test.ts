/** The pages of `docs/`: every block of code is a file that is type-checked, and run here, and prints what the page says. */
import { existsSync, globSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import * as TestPostgres from "@surety/testing/TestPostgres"
import { Effect, Redacted } from "effect"
import { run } from "./support/program.ts"

const root = new URL("../..", import.meta.url)
const read = (path: string) => readFileSync(new URL(path, root), "utf8")
const glob = (pattern: string) => globSync(pattern, { cwd: fileURLToPath(root) }).sort()

interface Block {
  readonly language: string
  readonly text: string
}

const pages = glob("docs/*.md").map((path) => {
  const markdown = read(path)
  const found = markdown.matchAll(/^```(\w*)\n(.*?)^```$/gms)
  const blocks = Array.from(found, ([, language, text]): Block => ({ language: language!, text: text! }))
  return { path, markdown, blocks }
})

const files = glob("examples/src/docs/*.ts").map((path) => ({ path, code: read(path) }))
/** Those that are tests are in the list of the tests. */
const programs = files.filter(({ path }) => !path.endsWith(".test.ts"))

/** What a page says that a program prints: the block of text after it. */
const printedBy = (code: string): ReadonlyArray<string> => {
  const blocks = pages.flatMap(({ blocks }) => blocks)
  const next = blocks[blocks.findIndex(({ text }) => text === code) + 1]
  return next?.language === "text" ? next.text.trimEnd().split("\n") : []
}

/** Dead letters are logged. */
const isLogLine = (line: string) => /^\[\d\d:\d\d:\d\d\.\d{3}\] WARN /.test(line)

describe("the pages of docs", () => {
  it("show each file of examples/src/docs once, and no other code", () => {
    const shown = pages.flatMap(({ blocks }) => blocks.filter(({ language }) => language !== "text"))
    assert.deepStrictEqual(
      shown.filter(({ text }) => !files.some(({ code }) => code === text)),
      []
    )
    assert.deepStrictEqual(
      files.filter(({ code }) => shown.filter(({ text }) => text === code).length !== 1).map(({ path }) => path),
      []
    )
  })

  it("link to what there is, and are linked from the README", () => {
    const readme = read("README.md")
    for (const { markdown, path } of pages) {
      assert.include(readme, `](${path})`)
      const links = Array.from(markdown.matchAll(/\]\((?!https?:)([^)]+)\)/g), ([, link]) => link!)
      assert.deepStrictEqual(
        links.filter((link) => !existsSync(new URL(link, new URL(path, root)))),
        []
      )
    }
  })

  it("say what remains possible", () => {
    assert.deepStrictEqual(
      pages.filter(({ markdown }) => !/^## What remains possible$/m.test(markdown)).map(({ path }) => path),
      []
    )
  })
})

/** Why a program cannot be run here. */
const missing = (code: string) => (code.includes("@surety/kafka") ? process.env.SURETY_KAFKA_MISSING : undefined)

it.layer(TestPostgres.layer, { excludeTestServices: true })("the code of docs", (it) => {
  for (const { code, path } of programs) {
    const reason = missing(code)
    const test = reason === undefined ? it.effect : it.effect.skip
    test(`${path} prints what its page says${reason === undefined ? "" : ` (no Kafka: ${reason})`}`, () =>
      Effect.gen(function* () {
        const { url } = yield* Effect.flatMap(TestPostgres.TestPostgres, ({ createDatabase }) => createDatabase())
        const ended = yield* run([path], { DATABASE_URL: Redacted.value(url) })
        assert.deepStrictEqual({ code: ended.code, stderr: ended.stderr }, { code: 0, stderr: [] })
        assert.deepStrictEqual(
          ended.stdout.filter((line) => !isLogLine(line)),
          printedBy(code)
        )
      }))
  }
})
