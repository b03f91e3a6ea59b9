/** `npm run bench`: Surety on PostgreSQL, measured beside what people use today. */
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, Effect, Predicate, Runtime, Schema } from "effect"
import { Command } from "effect/cli"
import * as Bench from "./bench.ts"
import { flags } from "./flags.ts"
import * as Report from "./report.ts"
import * as Server from "./server.ts"
import { systems } from "./systems/index.ts"
import { workloads } from "./workloads/index.ts"

setFlagsFromString("--expose-gc")
globalThis.gc = runInNewContext("gc")

/** The run failed, and has said why. */
class Failed extends Schema.TaggedError<Failed>()("Failed", {}) {
  override readonly [Runtime.errorReported] = false
}

const explain = (error: unknown): string => (Predicate.isError(error) ? error.message : String(error))

const bench = Command.make(
  "npm run bench --",
  flags(
    workloads.map(({ name }) => name),
    systems.map(({ name }) => name)
  ),
  Effect.fnUntraced(
    function* (options) {
      const report = yield* Bench.run(workloads, systems, options)
      if (options.json) yield* Console.log(Report.json(report.lines))
      if (report.failures.length > 0) return yield* new Failed()
    },
    Effect.provide(Server.layer),
    Effect.tapError((error) => (error instanceof Failed ? Effect.void : Console.error(explain(error)))),
    Effect.mapError(() => new Failed())
  )
).pipe(
  Command.withDescription(
    "Measures Surety on a PostgreSQL of its own, in turns with other libraries and with hand-written SQL, and checks " +
      "after each run that every message was applied exactly once."
  )
)

bench.pipe(Command.run({ version: "0.1.0" }), Effect.provide(NodeServices.layer), NodeRuntime.runMain)
