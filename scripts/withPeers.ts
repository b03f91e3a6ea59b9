/** Programs in a folder of their own, with libraries that nothing else needs: installed when the program is first run. */
import { type StdioOptions, spawnSync } from "node:child_process"
import { copyFileSync, existsSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

const run = (command: string, args: ReadonlyArray<string>, options: { cwd?: string; stdio: StdioOptions }): void => {
  const { error, signal, status } = spawnSync(command, args, options)
  if (error !== undefined) console.error(`Cannot run ${command}: ${error.message}`)
  if (status !== 0) process.exit(status ?? (signal === "SIGINT" ? 130 : 1))
}

/** Installs what the lock file of the folder names, and runs its `src/main.ts` with the arguments of this process. */
export const runWithPeers = (path: string): void => {
  const folder = fileURLToPath(new URL(`../${path}`, import.meta.url))
  const lock = `${folder}/package-lock.json`
  /** A copy of the lock file that was installed. */
  const installed = `${folder}/node_modules/.installed.json`
  // Ctrl-C reaches the whole terminal group: the program shuts down by itself, and this process reports how it ended.
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => {})
  if (!existsSync(installed) || readFileSync(installed, "utf8") !== readFileSync(lock, "utf8")) {
    // Its output is no part of the result.
    run("npm", ["ci"], { cwd: folder, stdio: ["inherit", 2, "inherit"] })
    copyFileSync(lock, installed)
  }
  run(process.execPath, [`${folder}/src/main.ts`, ...process.argv.slice(2)], { stdio: "inherit" })
}
