/** Runs the conformance suite of transports on a real broker: `npm run kafka:conformance -- [-t NAME]`. */
import { spawnSync } from "node:child_process"
import { fileURLToPath } from "node:url"

const vitest = fileURLToPath(new URL("../../node_modules/vitest/vitest.mjs", import.meta.url))
const { status } = spawnSync(
  process.execPath,
  [vitest, "run", "packages/kafka/test/TransportTest.test.ts", ...process.argv.slice(2)],
  { stdio: "inherit", env: { ...process.env, SURETY_KAFKA_CONFORMANCE: "1", SURETY_REQUIRE_KAFKA: "1" } }
)
process.exit(status ?? 1)
