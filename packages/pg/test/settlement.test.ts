/**
 * POSTGRES.md, rules 10 to 12: what one transaction settles. Where a
 * protection can be switched off, the same scenario then shows the violation.
 */
import { assert, describe, it } from "@effect/vitest"
import { Consumer, Inbox, Producer } from "@surety/core"
import { Cause, Data, Effect, Exit, Fiber } from "effect"
import * as SqlClient from "effect/sql/SqlClient"
import {
  deadLetters,
  effect,
  effects,
  forgetInbox,
  holding,
  inbox,
  inDatabase,
  lease,
  type Node,
  type Note,
  note,
  notes,
  settled,
  start,
  until,
  value,
  values,
  Work
} from "./support/nodes.ts"

class Refused extends Data.TaggedError("Refused")<{ readonly id: string }> {}

const ids = (count: number, prefix = "m") => Array.from({ length: count }, (_, index) => `${prefix}${index + 1}`)

describe("rule 10: one handler at a time in a transaction", () => {
  it.live("what one rolls back takes nothing of another's, however many may run at once", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        const all = ids(24)
        yield* node.publish(...all.map((id) => note(id, { key: id })))
        const running = new Map<string, string>()
        const together: Array<string> = []
        yield* node.consume(
          Consumer.make(Work, {
            group: "workers",
            concurrency: 4,
            handler: Effect.fnUntraced(function* ({ id }: Note) {
              const sql = yield* SqlClient.SqlClient
              const transaction = yield* Effect.orDie(value<string>("SELECT pg_current_xact_id()::text AS value"))
              const other = running.get(transaction)
              if (other !== undefined) together.push(`${other} and ${id} in ${transaction}`)
              running.set(transaction, id)
              yield* Effect.ignore(
                sql.withTransaction(
                  Effect.gen(function* () {
                    yield* effect(id, "rolled back")
                    // Long enough for another one to get between, if it could.
                    yield* values("SELECT 1 AS value FROM generate_series(1, 1000)")
                    return yield* new Refused({ id })
                  })
                )
              )
              yield* effect(id, "kept")
              running.delete(transaction)
            })
          }).pipe(Consumer.orDeadLetter)
        )
        yield* settled(all.length)
        assert.deepStrictEqual(together, [])
        assert.deepStrictEqual((yield* effects).toSorted(), all.toSorted())
        assert.deepStrictEqual(yield* values("SELECT DISTINCT note AS value FROM effect"), ["kept"])
      })
    )
  )
})

describe("rule 11: the inbox", () => {
  const copies = (node: Node) =>
    Effect.gen(function* () {
      yield* node.publish(note("a", { body: "first" }), note("b"), note("a", { body: "second" }))
      yield* node.consume(Consumer.make(Work, { group: "workers", handler: ({ body, id }: Note) => effect(id, body) }))
      yield* settled(3)
      yield* node.publish(note("b"), note("a", { body: "third" }))
      yield* settled(5)
      return yield* values<string>("SELECT concat(id, note) AS value FROM effect ORDER BY seq")
    })

  it.live("of equal ids the first copy is handled, in one batch and later", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        assert.deepStrictEqual(yield* copies(node), ["afirst", "b"])
        assert.deepStrictEqual(yield* inbox, ["a handled", "b handled"])
      })
    )
  )

  it.live("later copies are handled again when it forgets: the test can fail", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        yield* forgetInbox
        assert.deepStrictEqual(yield* copies(node), ["afirst", "b", "b", "athird"])
      })
    )
  )

  it.live("groups and topics have an inbox of their own", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        const Other = notes({ name: "other" })
        yield* node.publish(note("a"))
        yield* node.run(Producer.publish(Other, note("a")))
        const consumer = (topic: typeof Work, group: string) =>
          Consumer.make(topic, { group, handler: ({ id }: Note) => effect(id, `${topic.name} ${group}`) })
        yield* node.consume(consumer(Work, "one"))
        yield* node.consume(consumer(Work, "two"))
        yield* node.consume(consumer(Other, "one"))
        yield* until(
          "all three",
          Effect.map(effects, (found) => found.length === 3)
        )
        assert.deepStrictEqual((yield* values<string>("SELECT note AS value FROM effect")).toSorted(), [
          "other one",
          "work one",
          "work two"
        ])
      })
    )
  )

  it.live("its rows are inserted in the order of their ids", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        yield* node.publish(...["m", "z", "a", "q", "B", "é"].map((id) => note(id)))
        yield* node.consume(Consumer.make(Work, { group: "workers", handler: ({ id }: Note) => effect(id) }))
        yield* settled(6)
        // Handled in the order of the log, and inserted by one statement in that of their bytes.
        assert.deepStrictEqual(yield* effects, ["m", "z", "a", "q", "B", "é"])
        assert.deepStrictEqual(yield* values("SELECT id AS value FROM surety.inbox ORDER BY ctid"), [
          "B",
          "a",
          "m",
          "q",
          "z",
          "é"
        ])
      })
    )
  )

  /** Stops whoever inserts a second row of a transaction until nobody holds the gate. */
  const gateSecondRow = Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql.unsafe(`CREATE FUNCTION second_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      IF EXISTS (SELECT FROM surety.inbox WHERE xmin = pg_current_xact_id()::xid) THEN
        PERFORM pg_advisory_xact_lock_shared(4711);
      END IF;
      RETURN NEW;
    END $$`)
    yield* sql`CREATE TRIGGER second_row BEFORE INSERT ON surety.inbox FOR EACH ROW EXECUTE FUNCTION second_row()`
  })

  /** Runs both while the gate is closed, opens it when both wait, and tells how they ended. */
  const whileGated = <A, E, R>(one: Effect.Effect<A, E, R>, two: Effect.Effect<A, E, R>) =>
    Effect.gen(function* () {
      yield* gateSecondRow
      const open = yield* holding(values("SELECT pg_advisory_xact_lock(4711)"))
      const fibers = yield* Effect.forEach([one, two], (each) => Effect.forkScoped(each))
      yield* until(
        "both wait",
        value<boolean>(`SELECT count(*) = 2 AS value FROM pg_stat_activity
          WHERE datname = current_database() AND wait_event_type = 'Lock'`)
      )
      yield* open
      return yield* Effect.forEach(fibers, (fiber) => Fiber.await(fiber))
    })

  it.live("consumers that meet the same ids in opposite orders do not deadlock", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        const { admit, transaction } = yield* node.run(Inbox.Inbox)
        const { holder } = yield* lease(node, Work)
        const admitting = (...found: ReadonlyArray<string>) =>
          transaction(
            holder,
            admit(
              holder,
              found.map((id) => ({ id, outcome: "handled" }))
            )
          )
        const exits = yield* whileGated(admitting("x", "y"), admitting("y", "x"))
        assert.sameDeepMembers(exits, [Exit.succeed([true, true]), Exit.succeed([false, false])])
      })
    )
  )

  it.live("they do when the rows are inserted as they come: the test can fail", () =>
    inDatabase(
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* start()
        const inserting = (...found: ReadonlyArray<string>) =>
          sql.withTransaction(
            sql.unsafe("INSERT INTO surety.inbox SELECT 1, unnest($1::text[]), 'handled' ON CONFLICT DO NOTHING", [
              found
            ])
          )
        const exits = yield* whileGated(inserting("x", "y"), inserting("y", "x"))
        const failed = exits.flatMap((exit) => (Exit.isFailure(exit) ? [Cause.squash(exit.cause)] : []))
        assert.lengthOf(failed, 1)
        assert.propertyVal((failed[0] as { reason: object }).reason, "_tag", "DeadlockError")
      })
    )
  )
})

describe("rule 12: every outcome settles through the inbox", () => {
  it.live("handled, discarded, dead and undecodable: each in the transaction that settles it", () =>
    inDatabase(
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const node = yield* start()
        yield* node.publish(note("good"), note("bad"), note("dull"), note("ugly"))
        yield* sql`UPDATE surety.log SET payload = '{' WHERE id = 'ugly'`
        class Dull extends Data.TaggedError("Dull") {}
        yield* node.consume(
          Consumer.make(Work, {
            group: "workers",
            handler: Effect.fnUntraced(function* ({ id }: Note) {
              yield* effect(id)
              if (id === "bad") return yield* new Refused({ id })
              if (id === "dull") return yield* new Dull()
            })
          }).pipe(Consumer.discard("Dull"), Consumer.orDeadLetter)
        )
        yield* settled(4)
        assert.deepStrictEqual(yield* inbox, ["bad dead", "dull discarded", "good handled", "ugly dead"])
        assert.deepStrictEqual(yield* deadLetters, ["bad Refused 1", "ugly DecodeFailed 0"])
        assert.deepStrictEqual(yield* effects, ["good"])
        // One transaction wrote both rows of each.
        assert.deepStrictEqual(
          yield* values<string>(`SELECT i.id AS value FROM surety.inbox i
            JOIN (SELECT id, xmin AS x FROM effect UNION ALL SELECT id, xmin FROM surety.dead_letter) o ON o.id = i.id
            WHERE i.xmin = o.x ORDER BY i.id`),
          ["bad", "good", "ugly"]
        )
        // And the last one that settled something moved the cursor.
        assert.strictEqual(
          yield* value<boolean>(`SELECT c.xmin = (SELECT i.xmin FROM surety.inbox i JOIN surety.log l USING (id)
            ORDER BY l.log_offset DESC LIMIT 1) AS value FROM surety.cursor c`),
          true
        )
      })
    )
  )
})
