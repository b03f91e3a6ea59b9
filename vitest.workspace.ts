import { fileURLToPath } from "node:url"
import type { TestProjectInlineConfiguration } from "vitest/config"

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url))

const project = (root: string, test: TestProjectInlineConfiguration["test"] = {}): TestProjectInlineConfiguration => ({
  root: path(root),
  test: { name: root.replace("packages/", ""), include: ["test/**/*.test.ts"], ...test }
})

const seconds = 1000

const withPostgres: TestProjectInlineConfiguration["test"] = {
  globalSetup: [path("test/globalSetup.ts")],
  testTimeout: 60 * seconds,
  hookTimeout: 60 * seconds
}

/** Beside the database. */
const withKafka: TestProjectInlineConfiguration["test"] = {
  globalSetup: [path("test/globalSetup.ts"), path("test/kafkaSetup.ts")],
  testTimeout: 120 * seconds,
  hookTimeout: 120 * seconds
}

/** The test projects. `vitest.config.ts` reads this list: Vitest does not look for it by itself. */
export default [
  project("packages/core"),
  project("packages/kafka", withKafka),
  project("packages/pg", withPostgres),
  project("packages/testing", withPostgres),
  project("packages/bench"),
  project("packages/chaos"),
  project("comparisons", withPostgres),
  project("examples", { ...withKafka, include: ["test/**/*.test.ts", "src/docs/*.test.ts"] }),
  project("examples/src", { include: ["*.test.ts"] })
]
