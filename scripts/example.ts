/** Runs one example by name: `npm run example NAME`. Without a name, lists them. */
import { spawnSync } from "node:child_process"
import { globSync } from "node:fs"
import { fileURLToPath } from "node:url"

const examples = fileURLToPath(new URL("../examples/src", import.meta.url))
const vitest = fileURLToPath(new URL("../node_modules/vitest/vitest.mjs", import.meta.url))

/** Programs are `NAME.ts` and `NAME/main.ts`; an example that is a test is `NAME.test.ts`. */
const files = new Map(
  globSync(["*.ts", "*/main.ts"], { cwd: examples })
    .map((path) => path.replaceAll("\\", "/"))
    .map((path) => [path.replace(/(\/main|\.test)?\.ts$/, ""), path] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1))
)

const [name, ...args] = process.argv.slice(2)
const file = name === undefined ? undefined : files.get(name)
if (file === undefined) {
  if (name !== undefined) console.error(`There is no example "${name}".`)
  const names = Array.from(files.keys(), (name) => `  ${name}`).join("\n")
  console.error(`Usage: npm run example NAME\n\nExamples:\n${names}`)
  process.exit(1)
}

const command = file.endsWith(".test.ts")
  ? [vitest, "run", "--project", "examples/src", file, ...args]
  : [`${examples}/${file}`, ...args]
// Ctrl-C reaches the whole terminal group: the example shuts down by itself, and this process reports how it ended.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => {})
const { signal, status } = spawnSync(process.execPath, command, { stdio: "inherit" })
process.exit(status ?? (signal === "SIGINT" ? 130 : 1))
