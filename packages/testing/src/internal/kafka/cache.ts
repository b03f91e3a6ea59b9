/**
 * Where `npm run kafka:setup` keeps what the tests of Kafka need: the client's
 * native binary and the jars of a broker. Outside of the checkout, by versions
 * and platform, so that checkouts share them and `npm ci` does not remove them.
 */
import * as fs from "node:fs"
import { createRequire } from "node:module"
import * as os from "node:os"
import { dirname, join } from "node:path"

export const versions = { client: "1.10.1", kafka: "4.1.1", log4j: "2.24.3" }

export const cache = join(process.env.XDG_CACHE_HOME ?? join(os.homedir(), ".cache"), "surety", "kafka")

/** The directory `build` of the client: its binary runs under one ABI of Node on one platform. */
export const clientBuild = join(
  cache,
  `client-${versions.client}-abi${process.versions.modules}-${process.platform}-${process.arch}`
)

/** The directory of the broker's jars. */
export const brokerJars = join(cache, `broker-${versions.kafka}`)

/** The client's package, which `npm ci` installs without its binary; undefined where it did not. */
export const clientPackage = (): string | undefined => {
  try {
    return dirname(createRequire(import.meta.url).resolve("@confluentinc/kafka-javascript/package.json"))
  } catch {
    return undefined
  }
}

const setup = "run `npm run kafka:setup` once"

/** Gives the client's package the binary of the cache, unless it has one. Returns why it cannot. */
export const linkClient = (): string | undefined => {
  const directory = clientPackage()
  if (directory === undefined) return "the package @confluentinc/kafka-javascript is not installed"
  const build = join(directory, "build")
  if (fs.existsSync(join(build, "Release"))) return undefined
  if (!fs.existsSync(clientBuild)) return `the client's native binary is not built for this Node; ${setup}`
  fs.rmSync(build, { recursive: true, force: true })
  fs.symlinkSync(clientBuild, build)
  return undefined
}

/** Why no broker can be started here. */
export const missingBroker = (): string | undefined => {
  if (process.platform === "win32") return "the embedded broker does not run on Windows; set KAFKA_BOOTSTRAP_SERVERS"
  return fs.existsSync(brokerJars) ? undefined : `the broker's jars are not here; ${setup}`
}
