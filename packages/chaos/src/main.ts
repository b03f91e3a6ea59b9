/** `npm run chaos`: real processes and a real server under faults, and a ledger that must balance. */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import * as TestPostgres from "@surety/testing/TestPostgres"
import { Console, Effect, Predicate, Runtime, Schema } from "effect"
import { Command } from "effect/cli"
import * as Chaos from "./chaos.ts"
import { broken } from "./counts.ts"
import { flags } from "./flags.ts"
import * as Report from "./report.ts"

/** The run failed, and has said why. */
class Failed extends Schema.TaggedError<Failed>()("Failed", {}) {
  override readonly [Runtime.errorReported] = false
}

const explain = (error: unknown): string => (Predicate.isError(error) ? error.message : String(error))

const chaos = Command.make(
  "npm run chaos --",
  flags,
  Effect.fnUntraced(
    function* (options) {
      const report = yield* Chaos.run(options)
      yield* Console.log(Report.text(report))
      if (options.json) yield* Console.log(Report.json(report))
      if (broken(report.counts).length > 0) return yield* new Failed()
    },
    Effect.provide(TestPostgres.layerEmbedded),
    Effect.tapError((error) => (error instanceof Failed ? Effect.void : Console.error(explain(error)))),
    Effect.mapError(() => new Failed())
  )
).pipe(
  Command.withDescription(
    "Publishes entries of accounts and books them, in processes that are killed, frozen and stopped, while the server " +
      "that carries them is restarted every 5 to 10 seconds, and looks for what was lost, booked twice or out of order. " +
      "Ends with 0 only where nothing was."
  )
)

chaos.pipe(Command.run({ version: "0.1.0" }), Effect.provide(NodeServices.layer), NodeRuntime.runMain)
