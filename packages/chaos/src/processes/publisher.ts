/** A publisher: publishes the entries of its accounts, each account's in order, until it is killed. */
import { type AtLeastOnce, type ExactlyOnce, Producer, type PublishError } from "@surety/core"
import { Config, Effect, Schema } from "effect"
import { Assignment, encode, type Line } from "../lines.ts"
import { Entries, EntriesWithoutInbox, type Entry } from "../messages.ts"
import { runChild } from "./child.ts"

/** Written before anything else happens: a pipe takes a line at once. */
const say = (...line: Line) => Effect.sync(() => process.stdout.write(`${encode(line)}\n`))

const send = (entry: Entry, inbox: boolean): Effect.Effect<unknown, PublishError, AtLeastOnce | ExactlyOnce> =>
  inbox ? Producer.publish(Entries, entry) : Producer.publish(EntriesWithoutInbox, entry)

const publish = (account: number, from: number, inbox: boolean) => {
  let next = from
  return Effect.gen(function* () {
    const n = next++
    const entry = { account, n, amount: ((n * 7919) % 200) - 100 }
    yield* say("attempt", account, n)
    const ended = yield* send(entry, inbox).pipe(
      Effect.match({
        onSuccess: () => "acknowledged" as const,
        onFailure: ({ reason }) => (reason._tag === "MaybeSent" ? ("unknown" as const) : ("failed" as const))
      })
    )
    yield* say(ended, account, n)
    yield* Effect.sleep("30 millis")
  }).pipe(Effect.forever)
}

runChild(
  "publisher",
  Effect.gen(function* () {
    const accounts = yield* Schema.decodeEffect(Assignment)(process.argv[2]!)
    const inbox = yield* Config.Boolean("CHAOS_INBOX")
    yield* Effect.forEach(accounts, ([account, next]) => publish(account, next, inbox), {
      concurrency: "unbounded",
      discard: true
    })
  })
)
