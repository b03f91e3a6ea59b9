/** A group that nobody serves any more is dropped with all that is its own, and only then. */
import { assert, describe, it } from "@effect/vitest"
import { Consumer, Inbox } from "@surety/core"
import * as PgSchema from "@surety/pg/PgSchema"
import * as PgTransport from "@surety/pg/PgTransport"
import { Effect, Schedule } from "effect"
import {
  effect,
  inDatabase,
  lease,
  type Node,
  type Note,
  note,
  published,
  settled,
  start,
  until,
  values,
  Work
} from "./support/nodes.ts"
import { handling, Refused } from "./support/retention.ts"

describe("a group that is gone", () => {
  const drop = (topic: string, group: string) => Effect.provide(PgTransport.dropGroup(topic, group), PgSchema.layer)
  const rowsOf = (group: string) =>
    values<string>(
      `SELECT t.name || ' ' || count(*) AS value FROM (
        SELECT 'cursor' AS name, consumer_group FROM surety.cursor UNION ALL
        SELECT 'member', consumer_group FROM surety.member UNION ALL
        SELECT 'attempt', consumer_group FROM surety.attempt UNION ALL
        SELECT 'redelivery', consumer_group FROM surety.redelivery UNION ALL
        SELECT 'dead_letter', consumer_group FROM surety.dead_letter UNION ALL
        SELECT 'inbox', consumer_group FROM surety.inbox
      ) AS t JOIN surety.consumer_group g ON g.id = t.consumer_group WHERE g.name = $1 GROUP BY t.name ORDER BY t.name`,
      group
    )

  const busy = (node: Node, group: string) =>
    Effect.scoped(
      Effect.andThen(
        node.consume(
          Consumer.make(Work, {
            group,
            redeliverAfter: 0,
            handler: ({ id }: Note) => (id === "fine" ? Effect.void : Effect.fail(new Refused({ id })))
          }).pipe(Consumer.retry(Schedule.spaced("1 hour").pipe(Schedule.upTo({ times: 1 }))), Consumer.orDeadLetter)
        ),
        until(
          `${group} has kept one aside`,
          Effect.map(rowsOf(group), (rows) => rows.includes("redelivery 1"))
        )
      )
    )

  it.live("is dropped with all that is its own, and nothing else", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        yield* node.publish(note("fine"), note("bad"))
        yield* busy(node, "gone")
        yield* busy(node, "workers")
        const before = yield* rowsOf("workers")
        assert.deepStrictEqual(yield* rowsOf("gone"), before)
        yield* drop("work", "gone")
        assert.deepStrictEqual(yield* rowsOf("gone"), [])
        assert.deepStrictEqual(yield* rowsOf("workers"), before)
        assert.lengthOf(yield* values("SELECT 1 AS value FROM surety.inbox WHERE id = 'fine'"), 1)
        assert.lengthOf(yield* published("work"), 2)
        // Registered again, it begins anew.
        yield* busy(node, "gone")
        assert.deepStrictEqual(yield* rowsOf("gone"), before)
      })
    )
  )

  it.live("is not dropped while a member is alive, nor when there is none of its name", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        yield* node.publish(note("fine"))
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* node.consume(handling(({ id }) => effect(id)))
            const error = yield* Effect.flip(drop("work", "workers"))
            assert.include(error.message, 'group "workers" of topic "work" has 1 live members: stop its consumers')
            yield* settled(1)
          })
        )
        yield* drop("work", "workers")
        for (const [topic, group] of [
          ["work", "workers"],
          ["nothing", "workers"]
        ] as const) {
          const error = yield* Effect.flip(drop(topic, group))
          assert.include(error.message, `group "workers" of topic "${topic}" is not registered`)
        }
      })
    )
  )

  it.live("and dropped takes no part any more, if it wakes", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start({ lease: "600 millis" })
        yield* node.publish(note("a"))
        const { assignment, holder } = yield* lease(node, Work)
        // Silent, so that it counts as gone.
        yield* values("ALTER FUNCTION surety.heartbeat(integer, text, interval) RENAME TO heartbeat_off")
        yield* until("its membership is over", Effect.isSuccess(drop("work", "workers")))
        yield* values("ALTER FUNCTION surety.heartbeat_off(integer, text, interval) RENAME TO heartbeat")
        const settling = yield* Effect.flip(assignment.settle(1))
        assert.strictEqual(settling.reason._tag, "Fenced")
        const transaction = yield* Effect.flip(
          node.run(Effect.flatMap(Inbox.Inbox, (inbox) => inbox.transaction(holder, Effect.void)))
        )
        assert.strictEqual(transaction._tag, "TransportError")
        assert.deepStrictEqual(yield* values("SELECT 1 AS value FROM surety.member"), [])
        assert.deepStrictEqual(yield* values("SELECT 1 AS value FROM surety.inbox"), [])
      })
    )
  )
})
