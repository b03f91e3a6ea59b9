/** Runs one example by name: `npm run example -- NAME`. Without a name, lists them. */
import { spawnSync } from "node:child_process"
import { existsSync, globSync } from "node:fs"
import { fileURLToPath } from "node:url"

const examples = fileURLToPath(new URL("../examples/src", import.meta.url))
const names = globSync(["*.ts", "*/main.ts"], { cwd: examples })
  .map((path) => path.replaceAll("\\", "/").replace(/(\/main)?\.ts$/, ""))
  .sort()

const [name, ...args] = process.argv.slice(2)
if (name === undefined || !names.includes(name)) {
  if (name !== undefined) console.error(`There is no example "${name}".`)
  console.error(`Usage: npm run example -- NAME\n\nExamples:\n${names.map((name) => `  ${name}`).join("\n")}`)
  process.exit(1)
}

const file = [`${examples}/${name}.ts`, `${examples}/${name}/main.ts`].find(existsSync)!
// Ctrl-C reaches the whole terminal group: the example shuts down by itself, and this process reports how it ended.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => {})
const { signal, status } = spawnSync(process.execPath, [file, ...args], { stdio: "inherit" })
process.exit(status ?? (signal === "SIGINT" ? 130 : 1))
