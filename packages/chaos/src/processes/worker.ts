/** A worker: books entries until it is stopped. */
import * as PgClient from "@effect/sql-pg/PgClient"
import { Consumer } from "@surety/core"
import { Config, Console, Effect, Schedule } from "effect"
import { book, Entries, EntriesWithoutInbox, type Entry, group } from "../messages.ts"
import { runChild } from "./child.ts"

const options = {
  group,
  concurrency: 4,
  // A worker is killed every second: a message may be in the hands of many of them.
  maxCrashes: 50
} as const

const withInbox = Consumer.make(Entries, { ...options, handler: book })
const withoutInbox = Consumer.make(EntriesWithoutInbox, {
  ...options,
  handler: (entry: Entry) => Effect.flatMap(PgClient.PgClient, (sql) => sql.withTransaction(book(entry)))
})

runChild(
  "worker",
  Effect.gen(function* () {
    const inbox = yield* Config.Boolean("CHAOS_INBOX")
    yield* Console.log("working")
    return yield* inbox
      ? Consumer.run(withInbox.pipe(Consumer.orDeadLetter))
      : Consumer.run(withoutInbox.pipe(Consumer.retry(Schedule.spaced("100 millis")), Consumer.orDeadLetter))
  })
)
