/**
 * POSTGRES.md, rule 22: what the inbox forgets in the background, and what it
 * must not. Each protection is also switched off, and must then be missed.
 */
import { assert, describe, it } from "@effect/vitest"
import { Consumer, DeadLetters, Inbox } from "@surety/core"
import * as PgInbox from "@surety/pg/PgInbox"
import * as PgSchema from "@surety/pg/PgSchema"
import { Duration, Effect, Layer, Schedule } from "effect"
import {
  deadLetters,
  effect,
  effects,
  inbox,
  inDatabase,
  type Note,
  note,
  settled,
  start,
  until,
  value,
  values,
  Work
} from "./support/nodes.ts"
import { handling, Refused, replacing, serve, trimInbox, twoHoursPass } from "./support/retention.ts"

describe("the inbox", () => {
  it.live("forgets in the background, and takes an id anew then", () =>
    inDatabase(
      Effect.gen(function* () {
        const database = yield* Layer.build(
          Layer.provideMerge(
            PgInbox.layer,
            PgSchema.layerWith({ pollInterval: "20 millis", retention: { inbox: "100 millis" } })
          )
        )
        const node = yield* start()
        yield* node.publish(note("a"))
        yield* serve(node, 1)
        yield* until(
          "the inbox is empty",
          Effect.map(inbox, ({ length }) => length === 0)
        )
        yield* node.publish(note("a"))
        yield* serve(node, 2)
        assert.deepStrictEqual(yield* effects, ["a", "a"])
        const { retention } = yield* Effect.provideContext(Inbox.Inbox, database)
        assert.deepStrictEqual(retention, Duration.millis(100))
      })
    )
  )

  it.live("forgets in batches of blocks, and begins again", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        yield* serve(node, 0)
        yield* values(`INSERT INTO surety.inbox (consumer_group, id, outcome, settled_at)
          SELECT g.id, 'old ' || n, 'handled', now() - interval '1 hour' FROM surety.consumer_group g, generate_series(1, 3000) AS n`)
        const blocks = yield* value<number>("SELECT (pg_relation_size('surety.inbox') / 8192)::integer AS value")
        const left = Effect.map(inbox, ({ length }) => length)
        let batches = 0
        let before = 3000
        while ((yield* value<number>("SELECT surety.trim_inbox('1 minute', '10 minutes', 4) AS value")) === 0) {
          batches++
          const now = yield* left
          assert.isBelow(now, before)
          assert.isAbove(now, 0)
          before = now
        }
        assert.strictEqual(batches, Math.ceil(blocks / 4) - 1)
        assert.strictEqual(yield* left, 0)
        assert.strictEqual(yield* value("SELECT position::integer AS value FROM surety.sweep WHERE task = 'inbox'"), 0)
      })
    )
  )

  /** A copy that came in time waits in the log while nobody serves the group, until long after. */
  const copyInBacklog = Effect.gen(function* () {
    const node = yield* start()
    yield* node.publish(note("a"))
    yield* serve(node, 1)
    yield* node.publish(note("a"))
    yield* twoHoursPass
    yield* trimInbox()
    yield* serve(node, 2)
    return yield* effects
  })

  it.live("remembers for longer what may have a copy that nobody has handled yet", () =>
    inDatabase(Effect.map(copyInBacklog, (handled) => assert.deepStrictEqual(handled, ["a"])))
  )

  it.live("would let it take effect twice: the test can fail", () =>
    replacing(
      "trim_inbox",
      "min(n.stored_at)",
      "min(NULL::timestamptz)",
      Effect.map(copyInBacklog, (left) => assert.deepStrictEqual(left, ["a", "a"]))
    )
  )

  /** A copy that came in time waits behind a retry, until long after. */
  const copyBehindRetry = Effect.gen(function* () {
    const node = yield* start()
    const refuse = { busy: true }
    const consumer = Consumer.make(Work, {
      group: "workers",
      redeliverAfter: 0,
      handler: ({ id }: Note) => (id === "busy" && refuse.busy ? Effect.fail(new Refused({ id })) : effect(id))
    }).pipe(Consumer.retry(Schedule.spaced("1 hour")), Consumer.orDeadLetter)
    yield* node.publish(note("a", { key: "k" }), note("busy", { key: "k" }), note("a", { key: "k" }))
    yield* Effect.scoped(Effect.andThen(node.consume(consumer), settled(3)))
    yield* twoHoursPass
    yield* trimInbox()
    refuse.busy = false
    yield* values("UPDATE surety.redelivery SET due_at = now() WHERE due_at IS NOT NULL")
    yield* node.consume(consumer)
    yield* until(
      "nothing is parked",
      Effect.map(values("SELECT 1 AS value FROM surety.redelivery"), ({ length }) => length === 0)
    )
    return yield* effects
  })

  it.live("remembers for longer while a copy waits behind a retry", () =>
    inDatabase(Effect.map(copyBehindRetry, (handled) => assert.deepStrictEqual(handled, ["a", "busy"])))
  )

  it.live("would let that one take effect twice: the test can fail", () =>
    replacing(
      "trim_inbox",
      "min(r.stored_at)",
      "min(NULL::timestamptz)",
      Effect.map(copyBehindRetry, (left) => assert.deepStrictEqual(left, ["a", "busy", "a"]))
    )
  )

  /** A dead letter, and its copy long after; then a redrive of it. */
  const copyOfDeadLetter = Effect.gen(function* () {
    const node = yield* start()
    const refuse = { bad: true }
    const consumer = handling(({ id }) => (id === "bad" && refuse.bad ? Effect.fail(new Refused({ id })) : effect(id)))
    yield* node.publish(note("bad"), note("fine"))
    yield* Effect.scoped(Effect.andThen(node.consume(consumer), settled(2)))
    yield* twoHoursPass
    yield* trimInbox()
    assert.deepStrictEqual(yield* deadLetters, ["bad Refused 1"])
    refuse.bad = false
    yield* node.publish(note("bad"))
    yield* node.consume(consumer)
    yield* settled(3)
    const remembered = (yield* inbox).map((row) => row.split(" ")[0])
    yield* node.run(Effect.flatMap(DeadLetters.DeadLetters, ({ redrive }) => redrive()))
    yield* until(
      "the redriven one is settled",
      Effect.map(values("SELECT 1 AS value FROM surety.redelivery"), ({ length }) => length === 0)
    )
    // Long after, and still no second effect: a redrive is settled anew.
    yield* trimInbox()
    return { remembered, handled: yield* effects }
  })

  it.live("keeps the ids of dead letters, which a redrive opens again", () =>
    inDatabase(
      Effect.map(copyOfDeadLetter, ({ handled, remembered }) => {
        assert.deepStrictEqual(remembered, ["bad"])
        assert.deepStrictEqual(handled, ["fine", "bad"])
      })
    )
  )

  it.live("forgets them once the group has no dead letters any more", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        yield* node.publish(note("bad"))
        yield* Effect.scoped(
          Effect.andThen(node.consume(handling(({ id }) => Effect.fail(new Refused({ id })))), settled(1))
        )
        yield* twoHoursPass
        yield* trimInbox()
        assert.deepStrictEqual(yield* inbox, ["bad dead"])
        yield* node.run(Effect.flatMap(DeadLetters.DeadLetters, ({ purge }) => purge()))
        yield* trimInbox()
        assert.deepStrictEqual(yield* inbox, [])
      })
    )
  )

  /** What a redrive has opened is not served for a while. */
  const pending = Effect.gen(function* () {
    const node = yield* start()
    yield* node.publish(note("bad"))
    yield* Effect.scoped(
      Effect.andThen(node.consume(handling(({ id }) => Effect.fail(new Refused({ id })))), settled(1))
    )
    yield* node.run(Effect.flatMap(DeadLetters.DeadLetters, ({ redrive }) => redrive()))
    yield* twoHoursPass
    // Only the row itself protects it now.
    yield* values("UPDATE surety.redelivery SET stored_at = now()")
    yield* trimInbox()
    return yield* inbox
  })

  it.live("keeps what a redrive has opened", () =>
    inDatabase(Effect.map(pending, (rows) => assert.deepStrictEqual(rows, ["bad pending"])))
  )

  it.live("which it would forget: the test can fail", () =>
    replacing(
      "trim_inbox",
      "('handled', 'discarded')",
      "('handled', 'discarded', 'pending')",
      Effect.map(pending, (left) => assert.deepStrictEqual(left, []))
    )
  )

  it.live("of one group is not kept for another's sake", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        yield* serve(node, 0, "gone")
        yield* node.publish(note("a"))
        yield* serve(node, 1)
        yield* twoHoursPass
        yield* trimInbox()
        assert.deepStrictEqual(yield* inbox, [])
      })
    )
  )
})
