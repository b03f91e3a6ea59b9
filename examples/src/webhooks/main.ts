/**
 * A webhook inbox, settled exactly once: a sender that plays GitHub, a receiver
 * that publishes, and worker processes that are killed while they consume.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, Effect, Predicate, Runtime, Schema } from "effect"
import { Command } from "effect/cli"
import { NotFine, run } from "./demo.ts"
import { flags } from "./options.ts"

/** The run failed, and has said why. */
class Failed extends Schema.TaggedError<Failed>()("Failed", {}) {
  override readonly [Runtime.errorReported] = false
}

const explain = (error: unknown): string => (Predicate.isError(error) ? error.message : String(error))

const webhooks = Command.make("npm start --", flags, (options) =>
  run(options).pipe(
    Effect.tapError((error) => (error instanceof NotFine ? Effect.void : Console.error(explain(error)))),
    Effect.mapError(() => new Failed())
  )
).pipe(
  Command.withDescription(
    "Sends real GitHub webhooks to a receiver, applies them in worker processes that are killed meanwhile, and " +
      "compares the result with the input. Ends with 0 only when nothing was lost and nothing applied twice. " +
      "PostgreSQL comes with it; set DATABASE_URL to use a server of yours."
  )
)

webhooks.pipe(Command.run({ version: "0.1.0" }), Effect.provide(NodeServices.layer), NodeRuntime.runMain)
