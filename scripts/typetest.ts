/**
 * The type tests (`*.tst.ts` in each `typetest` directory) under both TypeScript compilers.
 *
 * 1. TSTyche runs them. It needs the JavaScript API of TypeScript 6, which TypeScript 7 no longer has.
 * 2. TypeScript 7, which the repository and its users compile with, must report the same errors: for every
 *    `// @ts-expect-error TEXT` the line below it has an error whose displayed message contains TEXT
 *    (`...` in TEXT stands for anything), and no other line has one.
 */
import { spawnSync } from "node:child_process"
import { globSync, readFileSync } from "node:fs"
import { relative } from "node:path"
import { fileURLToPath } from "node:url"
import { API, type Diagnostic } from "typescript/unstable/sync"

const root = fileURLToPath(new URL("..", import.meta.url))
const files = globSync("packages/*/typetest/**/*.tst.ts", { cwd: root }).map((path) => `${root}${path}`)
const filter = process.argv.slice(2)
if (files.length === 0) process.exit(0)

const tstyche = spawnSync(process.execPath, [`${root}node_modules/tstyche/dist/bin.js`, ...filter], {
  cwd: root,
  env: { ...process.env, TSTYCHE_TYPESCRIPT_MODULE: "typescript-6" },
  stdio: "inherit"
})

// The same length, so that positions stay, and no longer a directive, so that the compiler tells what it suppressed.
const unsuppress = (source: string) => source.replaceAll("@ts-expect-error", "@ts_expect_error")
const message = (diagnostic: Diagnostic): string =>
  [diagnostic.text, ...(diagnostic.messageChain ?? []).map(message)].join("\n")
const contains = (text: string, pinned: string) => {
  let position = 0
  return pinned.split("...").every((segment) => {
    const found = text.indexOf(segment, position)
    position = found + segment.length
    return found >= 0
  })
}

const api = new API({
  cwd: root,
  fs: { readFile: (path) => (path.endsWith(".tst.ts") ? unsuppress(readFileSync(path, "utf8")) : undefined) }
})
const snapshot = api.updateSnapshot({ openFiles: files })
const failures: Array<string> = []
let matched = 0

for (const file of files) {
  const { program } = snapshot.getDefaultProjectForFile(file)!
  const source = readFileSync(file, "utf8")
  const lineAt = (position: number) => source.slice(0, position).split("\n").length
  const fail = (line: number, text: string) => failures.push(`${relative(root, file)}:${line}: ${text}`)

  const errors = new Map<number, Array<string>>()
  for (const diagnostic of [...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file)]) {
    const line = lineAt(diagnostic.pos)
    errors.set(line, [...(errors.get(line) ?? []), message(diagnostic)])
  }
  for (const [index, text] of source.split("\n").entries()) {
    const pinned = /\/\/ @ts-expect-error:?\s*(.*)$/.exec(text)?.[1]
    if (pinned === undefined) continue
    const line = index + 2
    const found = errors.get(line)
    errors.delete(line)
    if (found === undefined) fail(line, `expected the error "${pinned}" and found none`)
    else if (pinned === "") fail(line, `the directive needs the text of the error:\n${found.join("\n")}`)
    else if (!found.some((text) => contains(text, pinned))) {
      fail(line, `expected the error "${pinned}" and found:\n${found.join("\n")}`)
    } else matched++
  }
  for (const [line, found] of errors) fail(line, found.join("\n"))
}
api.close()

console.log(`TypeScript 7: ${matched} pinned errors matched, ${failures.length} failures in ${files.length} files`)
for (const failure of failures) console.error(`\n${failure}`)
process.exit(failures.length > 0 ? 1 : (tstyche.status ?? 1))
