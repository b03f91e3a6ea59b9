/** Installs the libraries that the benchmark measures, which nothing else needs, and runs it: `npm run bench`. */
import { type StdioOptions, spawnSync } from "node:child_process"
import { copyFileSync, existsSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

const bench = fileURLToPath(new URL("../packages/bench", import.meta.url))
const lock = `${bench}/package-lock.json`
/** A copy of the lock file that was installed. */
const installed = `${bench}/node_modules/.installed.json`

// Ctrl-C reaches the whole terminal group: the benchmark shuts down by itself, and this process reports how it ended.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => {})
const run = (command: string, args: ReadonlyArray<string>, options: { cwd?: string; stdio: StdioOptions }): void => {
  const { error, signal, status } = spawnSync(command, args, options)
  if (error !== undefined) console.error(`Cannot run ${command}: ${error.message}`)
  if (status !== 0) process.exit(status ?? (signal === "SIGINT" ? 130 : 1))
}

if (!existsSync(installed) || readFileSync(installed, "utf8") !== readFileSync(lock, "utf8")) {
  // Its output is no part of the result.
  run("npm", ["ci"], { cwd: bench, stdio: ["inherit", 2, "inherit"] })
  copyFileSync(lock, installed)
}
run(process.execPath, [`${bench}/src/main.ts`, ...process.argv.slice(2)], { stdio: "inherit" })
