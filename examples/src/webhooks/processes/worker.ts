/** A worker process: consumes the deliveries until it is killed. */
import { Consumer } from "@surety/core"
import { Config, Effect } from "effect"
import { withInbox, withoutInbox } from "../handler.ts"
import { databaseLayer, runChild } from "./child.ts"
import { tell } from "./lines.ts"

const onCommit = (millis: number) => tell({ _tag: "Committed", millis })

runChild(
  Effect.gen(function* () {
    const inbox = yield* Config.Boolean("WEBHOOK_INBOX")
    return yield* inbox ? Consumer.run(withInbox(onCommit)) : Consumer.run(withoutInbox(onCommit))
  }).pipe(Effect.provide(databaseLayer))
)
