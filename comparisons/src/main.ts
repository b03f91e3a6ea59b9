/** `npm run compare`: programs on Surety, and on other libraries. Ends with 1 where ours did not come out as expected. */
import { NodeRuntime } from "@effect/platform-node"
import * as TestPostgres from "@surety/testing/TestPostgres"
import { Console, Effect, References, Runtime, Schema } from "effect"
import { appends } from "./appends/index.ts"
import { run } from "./comparison.ts"
import * as Report from "./report.ts"
import { zombie } from "./zombie/index.ts"

/** The table has said why. */
class Violated extends Schema.TaggedError<Violated>()("Violated", {}) {
  override readonly [Runtime.errorReported] = false
}

Effect.gen(function* () {
  const outcomes = yield* Effect.forEach([zombie, appends], run)
  yield* Console.log(Report.text(outcomes))
  if (Report.violated(outcomes)) return yield* new Violated()
}).pipe(
  Effect.provide(TestPostgres.layer),
  // A zombie that is refused says so, and is expected to.
  Effect.provideService(References.MinimumLogLevel, "Fatal"),
  NodeRuntime.runMain
)
