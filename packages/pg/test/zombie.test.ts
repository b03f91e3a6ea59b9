/**
 * POSTGRES.md, rule 14: a worker that is frozen inside a transaction, longer than
 * its lease, does not stop its successor, and nothing of the transaction commits
 * when it wakes.
 */
import { assert, describe, it } from "@effect/vitest"
import { Consumer, Producer } from "@surety/core"
import { Effect } from "effect"
import {
  changeFunction,
  effect,
  inDatabase,
  type Note,
  note,
  notes,
  settled,
  start,
  until,
  value,
  values,
  waiting
} from "./support/nodes.ts"
import { startWorker } from "./support/workers.ts"

const leaseMillis = 1500
const Work = notes({ partitions: 2 })
/** Keys of the first and of the second partition. */
const keys = ["0", "1"]

/** A worker that is frozen in the transaction of the first of two messages, and its successor. */
const freeze = Effect.fnUntraced(function* (body: string) {
  const successor = yield* start({ lease: leaseMillis, client: { applicationName: "successor" } })
  const zombie = yield* startWorker({ name: "zombie", leaseMillis, partitions: 2 })
  yield* successor.run(
    Producer.publishAll(Work, [note("first", { key: keys[0]!, body }), note("second", { key: keys[0]! })])
  )
  yield* zombie.says("inside first")
  yield* zombie.signal("SIGSTOP")
  const frozenAt = yield* value<Date>("SELECT clock_timestamp() AS value")
  yield* successor.consume(
    Consumer.make(Work, { group: "workers", handler: ({ id }: Note) => effect(id, "successor") })
  )
  return { successor, zombie, frozenAt }
})

const by = (name: string) =>
  values<string>("SELECT id AS value FROM effect WHERE note LIKE concat($1::text, '%') ORDER BY seq", name)

describe("a worker that is frozen inside its transaction", () => {
  for (const body of ["wait", "wait at the cursor"]) {
    it.live(`("${body}") is replaced within one lease, commits nothing of it, and re-joins`, ({ annotate }) =>
      inDatabase(
        Effect.gen(function* () {
          const { frozenAt, successor, zombie } = yield* freeze(body)
          yield* settled(2)
          assert.deepStrictEqual(yield* by("successor"), ["first", "second"])
          const takenOverAfter = yield* value<number>(
            "SELECT (extract(epoch FROM min(at) - $1::timestamptz) * 1000)::integer AS value FROM effect WHERE note = 'successor'",
            frozenAt
          )
          yield* Effect.promise(() => annotate(`taken over after ${takenOverAfter} ms of a lease of ${leaseMillis} ms`))
          // The lease was at most one lease long; the rest is for a machine that is busy with other tests.
          assert.isBelow(takenOverAfter, leaseMillis + 3000)
          yield* zombie.signal("SIGCONT")
          yield* zombie.go
          yield* zombie.says(/lost a partition|the store failed/)
          // It is a member again, and gets its share.
          let later = 0
          yield* until(
            "it handles later messages",
            Effect.gen(function* () {
              yield* successor.run(
                Producer.publishAll(
                  Work,
                  keys.map((key) => note(`later ${++later}`, { key }))
                )
              )
              return (yield* by("zombie")).length > 0
            })
          )
          yield* settled(2 + later)
          assert.isTrue((yield* by("zombie")).every((id) => id.startsWith("later")))
          assert.deepStrictEqual(yield* values("SELECT id AS value FROM effect GROUP BY id HAVING count(*) <> 1"), [])
          assert.strictEqual(yield* value("SELECT count(*)::integer AS value FROM effect"), 2 + later)
          assert.deepStrictEqual(yield* values("SELECT id AS value FROM surety.dead_letter"), [])
        })
      )
    )
  }

  it.live("blocks its successor where nobody terminates its session: the test can fail", () =>
    inDatabase(
      Effect.gen(function* () {
        yield* start()
        yield* changeFunction("terminate", "PERFORM pg_terminate_backend(l.pid)", "PERFORM l.pid")
        const { zombie } = yield* freeze("wait")
        yield* until(
          "the successor waits",
          Effect.map(waiting("successor"), (count) => count > 0)
        )
        assert.deepStrictEqual(
          yield* values(`SELECT DISTINCT z.application_name AS value FROM pg_stat_activity s
            JOIN pg_stat_activity z ON z.pid = ANY (pg_blocking_pids(s.pid)) WHERE s.application_name = 'successor'`),
          ["zombie"]
        )
        assert.deepStrictEqual(yield* by("successor"), [])
        yield* zombie.signal("SIGCONT")
        yield* zombie.go
        yield* settled(2)
        // Its own check of the epoch keeps the promise; "second" may be its again.
        assert.deepStrictEqual(yield* values("SELECT note AS value FROM effect WHERE id = 'first'"), ["successor"])
        assert.strictEqual(yield* value("SELECT count(*)::integer AS value FROM effect"), 2)
      })
    )
  )
})
