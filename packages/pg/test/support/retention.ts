/** What the tests of retention share: time that passes, batches by hand, and groups that are served for a while. */
import { Consumer } from "@surety/core"
import { Data, Effect } from "effect"
import { changeFunction, effect, inDatabase, type Node, type Note, start, until, value, values, Work } from "./nodes.ts"

export class Refused extends Data.TaggedError("Refused")<{ readonly id: string }> {}

export const ids = (count: number, prefix = "m") => Array.from({ length: count }, (_, index) => `${prefix}${index + 1}`)

/** Two hours pass for everything that is stored. */
export const twoHoursPass = Effect.gen(function* () {
  yield* values("UPDATE surety.log SET stored_at = stored_at - interval '2 hours'")
  yield* values("UPDATE surety.redelivery SET stored_at = stored_at - interval '2 hours'")
  yield* values("UPDATE surety.inbox SET settled_at = settled_at - interval '2 hours'")
})

/** One batch, with a retention of an hour. */
export const trimLog = (limit = 1000) =>
  value<number | null>("SELECT surety.trim_log('1 hour', '0', $1) AS value", limit)
export const trimInbox = (blocks = 128) =>
  value<number | null>("SELECT surety.trim_inbox('1 hour', '0', $1) AS value", blocks)

export const handling = (handler: (note: Note) => Effect.Effect<void, Refused, any>, group = "workers") =>
  Consumer.make(Work, { group, handler, drainTimeout: "50 millis" }).pipe(Consumer.orDeadLetter)

/** Handles what there is, until `count` messages are settled, and stops. */
export const serve = (node: Node, count: number, group = "workers") =>
  Effect.scoped(
    Effect.andThen(
      node.consume(handling(({ id }) => effect(id), group)),
      until(
        `${group} has settled ${count}`,
        Effect.map(
          value<boolean>(
            `SELECT settled >= $1 AS value FROM surety.cursor c JOIN surety.consumer_group g ON g.id = c.consumer_group
            WHERE g.name = $2`,
            count,
            group
          ),
          (now) => now
        )
      )
    )
  )

/** Runs a test in a database where a part of one of the schema's functions was replaced. */
export const replacing = <A, E, R>(name: string, from: string, to: string, test: Effect.Effect<A, E, R>) =>
  inDatabase(start().pipe(Effect.andThen(changeFunction(name, from, to)), Effect.andThen(test)))
