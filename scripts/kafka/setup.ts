/**
 * Gets what the tests of Kafka need, once: the client's native binary, which is
 * downloaded or else built from its sources, and the jars of a broker, by Maven.
 * Needs a network, and where the binary has to be built g++, make and python3
 * (two minutes); for the broker Java 17 and Maven.
 */
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import {
  brokerJars,
  cache,
  clientBuild,
  linkClient,
  versions
} from "../../packages/testing/src/internal/kafka/cache.ts"

const run = (what: string, command: string, args: ReadonlyArray<string>, cwd: string, env: NodeJS.ProcessEnv = {}) => {
  console.log(`  ${what} …`)
  const { error, status, stderr, stdout } = spawnSync(command, args, {
    cwd,
    env: { ...process.env, ...env },
    encoding: "utf8",
    maxBuffer: 1 << 30
  })
  if (status === 0) return
  console.error(`${stdout ?? ""}${stderr ?? ""}`.split("\n").slice(-40).join("\n"))
  console.error(`\n${what} failed: ${command} ${args.join(" ")} (${error?.message ?? `exit ${status}`})`)
  process.exit(1)
}

/** Makes a directory of the cache as a whole, or not at all. */
const make = (directory: string, what: string, body: (scratch: string) => void) => {
  if (fs.existsSync(directory)) return console.log(`${what}: in ${directory}`)
  console.log(`${what}: into ${directory}`)
  fs.mkdirSync(cache, { recursive: true })
  const scratch = fs.mkdtempSync(join(cache, "making-"))
  process.on("exit", () => fs.rmSync(scratch, { recursive: true, force: true }))
  const result = join(scratch, "result")
  fs.mkdirSync(result)
  body(scratch)
  // Another run of this script may have made it meanwhile.
  if (!fs.existsSync(directory)) fs.renameSync(result, directory)
  fs.rmSync(scratch, { recursive: true, force: true })
}

/** Node's headers: beside its binary, unless that is the one of the npm package `node`. */
const headersPackage = fs.existsSync(join(dirname(process.execPath), "../include/node/node_version.h"))
  ? undefined
  : `node-${process.platform}-${process.arch}`

make(clientBuild, `client ${versions.client} for Node ${process.version}`, (scratch) => {
  fs.writeFileSync(join(scratch, "package.json"), '{ "private": true }')
  const packages = [`@confluentinc/kafka-javascript@${versions.client}`]
  if (headersPackage !== undefined) packages.push(`${headersPackage}@${process.versions.node}`)
  run("fetching the package", "npm", ["install", "--ignore-scripts", ...packages], scratch)
  run(
    "downloading its binary, or building it (about 100 s on two cores)",
    "npm",
    ["rebuild", "@confluentinc/kafka-javascript", "--foreground-scripts"],
    scratch,
    {
      CKJS_LINKING: "dynamic",
      ...(headersPackage === undefined ? {} : { npm_config_nodedir: join(scratch, "node_modules", headersPackage) })
    }
  )
  const build = join(scratch, "node_modules/@confluentinc/kafka-javascript/build")
  // What is loaded, without the object files that it was made of.
  for (const path of fs.globSync(["Release/*.node", "deps/*.{so,so.*,dylib}"], { cwd: build })) {
    fs.cpSync(join(build, path), join(scratch, "result", path), { recursive: true, dereference: true })
  }
})

make(brokerJars, `broker ${versions.kafka}`, (scratch) => {
  const pom = fileURLToPath(new URL("pom.xml", import.meta.url))
  run(
    "fetching its jars",
    "mvn",
    [
      ...["-q", "-B", "-f", pom, "dependency:copy-dependencies", `-DoutputDirectory=${join(scratch, "result")}`],
      ...[`-Dkafka.version=${versions.kafka}`, `-Dlog4j.version=${versions.log4j}`]
    ],
    scratch
  )
})

const missing = linkClient()
if (missing !== undefined) {
  console.error(missing)
  process.exit(1)
}
console.log("ready: `npm test` includes Kafka now, `npm run kafka:start` starts a broker")
