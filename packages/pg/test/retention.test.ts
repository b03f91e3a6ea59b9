/**
 * POSTGRES.md, rule 20: what the background work deletes from the log, and what
 * it must not. Each protection is also switched off, and must then be missed.
 */
import { assert, describe, it } from "@effect/vitest"
import { Consumer, DeadLetters, ExactlyOnce, Inbox, Producer, Topic, Transport } from "@surety/core"
import * as PgSchema from "@surety/pg/PgSchema"
import * as PgTransport from "@surety/pg/PgTransport"
import { Deferred, Duration, Effect, Exit, Layer, Schedule, Scope } from "effect"
import {
  effect,
  effects,
  holding,
  inDatabase,
  layerNode,
  type Note,
  note,
  notes,
  published,
  settled,
  start,
  until,
  value,
  values,
  Work
} from "./support/nodes.ts"
import { handling, ids, Refused, replacing, serve, trimLog, twoHoursPass } from "./support/retention.ts"

describe("the log", () => {
  it.live("is trimmed in the background, in all processes, below every cursor", () =>
    inDatabase(
      Effect.gen(function* () {
        const short = { pollInterval: "20 millis", retention: { log: "100 millis" } } as const
        const node = yield* start(short)
        yield* start(short)
        // Without a group, what is old enough is nobody's.
        yield* serve(node, 0)
        const all = ids(30)
        yield* node.publish(...all.map((id) => note(id)))
        yield* serve(node, 20)
        // Others publish and read meanwhile.
        yield* node.publish(...ids(5, "late").map((id) => note(id)))
        yield* serve(node, 35)
        yield* until(
          "the log is empty",
          Effect.map(published("work"), (left) => left.length === 0)
        )
        assert.deepStrictEqual((yield* effects).toSorted(), [...all, ...ids(5, "late")].toSorted())
        // A process that checks the sequence against an empty log, and readers after it.
        const fresh = yield* start()
        yield* fresh.publish(note("after"))
        yield* serve(fresh, 36)
        assert.include(yield* effects, "after")
      })
    )
  )

  it.live("keeps what is younger than its retention", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        yield* node.publish(...ids(3).map((id) => note(id)))
        yield* serve(node, 3)
        assert.strictEqual(yield* trimLog(), 0)
        assert.lengthOf(yield* published("work"), 3)
        yield* twoHoursPass
        yield* node.publish(note("young"))
        yield* serve(node, 4)
        yield* trimLog()
        assert.deepStrictEqual(yield* published("work"), ["young"])
      })
    )
  )

  it.live("is trimmed in bounded batches", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        yield* node.publish(...ids(25).map((id) => note(id)))
        yield* serve(node, 25)
        yield* twoHoursPass
        const left = Effect.map(published("work"), ({ length }) => length)
        assert.strictEqual(yield* trimLog(10), 0)
        assert.strictEqual(yield* left, 15)
        assert.deepStrictEqual((yield* published("work"))[0], "m11")
        assert.strictEqual(yield* trimLog(10), 0)
        assert.strictEqual(yield* trimLog(10), 0)
        assert.strictEqual(yield* left, 0)
      })
    )
  )

  /** One group has settled two messages and claimed a third; another one is gone, with one settled. */
  const cursors = Effect.gen(function* () {
    const node = yield* start()
    yield* node.publish(...ids(2).map((id) => note(id)))
    yield* serve(node, 2)
    yield* serve(node, 2, "gone")
    yield* node.publish(...ids(2, "n").map((id) => note(id)))
    yield* serve(node, 3, "gone")
    const stuck = yield* Deferred.make<void>()
    yield* node.consume(
      handling(({ id }) =>
        id === "n1" ? Effect.andThen(Deferred.succeed(stuck, undefined), Effect.never) : Effect.void
      )
    )
    yield* Deferred.await(stuck)
    yield* twoHoursPass
    yield* trimLog()
    return yield* published("work")
  })

  it.live("keeps what is claimed, and what a group that is gone has not settled", () =>
    inDatabase(Effect.map(cursors, (left) => assert.deepStrictEqual(left, ["n1", "n2"])))
  )

  it.live("would lose it without the cursors: the test can fail", () =>
    replacing(
      "trim_log",
      "min(c.settled)",
      "NULL::bigint",
      Effect.map(cursors, (left) => assert.deepStrictEqual(left, []))
    )
  )

  it.live("is held back by a group that is gone until it is dropped", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        yield* serve(node, 0, "gone")
        yield* node.publish(...ids(3).map((id) => note(id)))
        yield* serve(node, 3)
        yield* twoHoursPass
        yield* trimLog()
        assert.lengthOf(yield* published("work"), 3)
        yield* PgTransport.dropGroup("work", "gone").pipe(Effect.provide(PgSchema.layer))
        yield* trimLog()
        assert.lengthOf(yield* published("work"), 0)
      })
    )
  )

  it.live("of a topic without groups goes by time alone", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        yield* node.publish(note("a"))
        yield* twoHoursPass
        yield* node.publish(note("b"))
        yield* trimLog()
        assert.deepStrictEqual(yield* published("work"), ["b"])
        yield* serve(node, 2)
        assert.deepStrictEqual(yield* effects, ["b"])
      })
    )
  )

  it.live("may be trimmed below what waits for a retry, or was dead-lettered", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        const refuse = { all: true }
        const consumer = Consumer.make(Work, {
          group: "workers",
          redeliverAfter: 0,
          handler: ({ body, id }: Note) =>
            refuse.all && id !== "fine" ? Effect.fail(new Refused({ id })) : effect(id, body)
        })
        yield* node.publish(note("bad", { body: "the bad one" }), note("fine"))
        yield* Effect.scoped(Effect.andThen(node.consume(consumer.pipe(Consumer.orDeadLetter)), settled(2)))
        yield* node.publish(note("later", { body: "the late one" }))
        yield* Effect.scoped(
          Effect.andThen(
            node.consume(consumer.pipe(Consumer.retry(Schedule.spaced("1 hour")), Consumer.orDeadLetter)),
            settled(3)
          )
        )
        yield* twoHoursPass
        yield* trimLog()
        assert.lengthOf(yield* published("work"), 0)
        refuse.all = false
        yield* values("UPDATE surety.redelivery SET due_at = now()")
        yield* node.run(Effect.flatMap(DeadLetters.DeadLetters, ({ redrive }) => redrive()))
        yield* node.consume(consumer.pipe(Consumer.orDeadLetter))
        yield* until(
          "both handled",
          Effect.map(effects, (handled) => handled.length === 3)
        )
        assert.deepStrictEqual(
          (yield* values<string>("SELECT concat(id, ': ', note) AS value FROM effect")).toSorted(),
          ["bad: the bad one", "fine: ", "later: the late one"]
        )
      })
    )
  )

  it.live("is trimmed by one process at a time, which holds up neither publishers nor readers", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        yield* node.publish(...ids(3).map((id) => note(id)))
        yield* serve(node, 3)
        yield* twoHoursPass
        const end = yield* holding(trimLog(2))
        assert.isNull(yield* trimLog())
        yield* node.publish(note("meanwhile"))
        yield* serve(node, 4)
        yield* end
        yield* trimLog()
        assert.deepStrictEqual(yield* published("work"), ["meanwhile"])
      })
    )
  )

  it.live("rests in between, by what all processes have done", () =>
    inDatabase(
      Effect.gen(function* () {
        yield* start()
        const trim = value<number>("SELECT surety.trim_log('1 hour', '10 minutes', 1000) AS value")
        assert.strictEqual(yield* trim, 600_000)
        const rest = yield* trim
        assert.isTrue(rest > 500_000 && rest < 600_000, `${rest}`)
        // A clock that was set back.
        yield* values("UPDATE surety.sweep SET done_at = now() + interval '1 year'")
        assert.strictEqual(yield* trim, 600_000)
      })
    )
  )
})

describe("topics", () => {
  it.live("of several partitions are trimmed in each", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        const Wide = Topic.make("wide", {
          schema: Work.schema,
          guarantee: "at-least-once",
          partitions: 8,
          id: ({ id }) => id
        })
        yield* node.run(
          Producer.publishAll(
            Wide,
            ids(100).map((id) => note(id))
          )
        )
        const consumer = Consumer.make(Wide, { group: "workers", handler: () => Effect.void })
        yield* Effect.scoped(Effect.andThen(node.consume(consumer), settled(100, "wide")))
        yield* twoHoursPass
        yield* trimLog(7)
        assert.lengthOf(yield* published("wide"), 93)
        yield* trimLog(1000)
        assert.lengthOf(yield* published("wide"), 0)
      })
    )
  )
})

describe("all of it under load", () => {
  it.live("loses nothing, and doubles nothing", () =>
    inDatabase(
      Effect.gen(function* () {
        const options = {
          pollInterval: "20 millis",
          lease: "2 seconds",
          retention: { log: "20 millis", inbox: "forever" }
        } as const
        const topic = notes({ partitions: 4 })
        const nodes = [yield* start(options), yield* start(options), yield* start(options)]
        const attempts = new Map<string, number>()
        const consumer = Consumer.make(topic, {
          group: "workers",
          concurrency: 4,
          redeliverAfter: 0,
          handler: ({ id }: Note) =>
            Effect.suspend(() => {
              const attempt = (attempts.get(id) ?? 0) + 1
              attempts.set(id, attempt)
              return attempt === 1 && id.endsWith("7") ? Effect.fail(new Refused({ id })) : effect(id)
            })
        }).pipe(Consumer.retry(Schedule.spaced("30 millis")), Consumer.orDeadLetter)
        const all = ids(900)
        yield* Effect.forEach(nodes, (node) => node.consume(consumer))
        yield* Effect.forEach(
          Array.from({ length: 30 }, (_, index) => all.slice(index * 30, index * 30 + 30)),
          (some, index) =>
            Effect.gen(function* () {
              const node = nodes[index % 3]!
              const messages = some.map((id) => note(id, { key: `k${id.length}${id[1]}` }))
              yield* node.run(Producer.publishAll(topic, messages))
              // A member comes and goes.
              const scope = yield* Scope.make()
              yield* Scope.provide(node.consume(consumer), scope)
              yield* Scope.close(scope, Exit.void)
            }),
          { concurrency: 3 }
        )
        yield* until(
          "all handled",
          Effect.map(effects, (handled) => handled.length >= all.length)
        )
        yield* until(
          "the log is empty",
          Effect.map(published("work"), ({ length }) => length === 0)
        )
        assert.deepStrictEqual((yield* effects).toSorted(), all.toSorted())
      })
    )
  )
})

describe("the composition", () => {
  it.live("refuses an inbox that forgets before the log does, with the figures", () =>
    inDatabase(
      Effect.gen(function* () {
        const build = (retention: PgSchema.Retention) =>
          Effect.scoped(Layer.build(layerNode({ retention }))).pipe(Effect.asVoid)
        const short = yield* Effect.flip(build({ log: "7 days", inbox: "7 days" }))
        assert.strictEqual(short._tag, "CompositionError")
        assert.include(
          short.message,
          "the inbox remembers for 7d what was settled, and a message may come again 7d 1m 30s later: " +
            "7d (retention of the postgresql transport's log"
        )
        const unlimited = yield* Effect.flip(build({ inbox: "7 days" }))
        assert.include(unlimited.message, "the postgresql transport's log is kept forever")
        yield* build({ log: "7 days", inbox: "8 days" })
        yield* build({ log: "7 days" })
        yield* build({})
        const invalid = yield* Effect.flip(build({ log: 0 }))
        assert.include(invalid.message, "retention.log is 0; it is positive")
      })
    )
  )

  it.live("says what is kept, for how long", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start({ retention: { log: "7 days", inbox: "8 days" }, lease: "20 seconds" })
        yield* node.run(
          Effect.gen(function* () {
            const { bounds } = yield* Transport.Transport
            assert.deepStrictEqual(bounds, { retention: Duration.days(7), lease: Duration.seconds(20) })
            assert.deepStrictEqual((yield* Inbox.Inbox).retention, Duration.days(8))
            assert.strictEqual((yield* ExactlyOnce).transport.bounds, bounds)
          })
        )
      })
    )
  )
})
