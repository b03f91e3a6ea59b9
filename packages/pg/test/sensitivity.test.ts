/**
 * The conformance suite on PostgreSQL, each time without one protection
 * (invariant 24): a function of the schema is changed, or a trigger undoes what
 * it does, and the scenario named finds the violation named.
 *
 * Not here, since no function of the schema holds them: the check of the epoch
 * by a transaction's last statement (fencing.test.ts), and the outbox, which is
 * the transaction itself.
 */
import type { PgClient } from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import * as TestPostgres from "@surety/testing/TestPostgres"
import * as TransportTest from "@surety/testing/TransportTest"
import { Effect, Layer, References } from "effect"
import { backend, Database, store } from "./support/backend.ts"
import { mutate } from "./support/mutate.ts"

type Change = (sql: PgClient) => Effect.Effect<unknown, unknown>

const changed =
  (name: string, from: string, to: string): Change =>
  (sql) =>
    mutate(sql, "surety", name, from, to)

/** Before rows of a table are changed: what `body` does with them. */
const before =
  (what: string, table: string, body: string): Change =>
  (sql) =>
    Effect.andThen(
      sql.unsafe(`CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ${body} END $$`),
      sql.unsafe(`CREATE TRIGGER undo BEFORE ${what} ON surety.${table} FOR EACH ROW EXECUTE FUNCTION undo()`)
    )

const finds = (
  title: string,
  invariants: ReadonlyArray<number>,
  scenario: string,
  change: Change,
  on: Layer.Layer<Database, unknown> = backend.store
) =>
  it.live(`${title}: invariant ${invariants.join(" and ")}`, () =>
    Effect.gen(function* () {
      const { sql } = yield* Database
      yield* change(sql)
      const found = yield* TransportTest.violated(backend, scenario, { tries: 300 })
      for (const invariant of invariants) {
        assert.isTrue(found.has(invariant), `${invariant} is not among ${Array.from(found).join(", ")}`)
      }
    }).pipe(Effect.provide(Layer.fresh(on)), Effect.provideService(References.MinimumLogLevel, "Error"))
  )

describe("the suite is sensitive to", { concurrent: true }, () => {
  finds(
    "readers that read past open publishers",
    [4, 9],
    "at-least-once: reads records whose transactions commit in another order than they began",
    changed("horizon", "RETURN least(v_last, v_lowest)", "RETURN v_last")
  )

  finds("an inbox that remembers nothing", [5, 15], "an id that is published again has no second effect", (sql) =>
    Effect.andThen(
      sql.unsafe(`CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS $$
          BEGIN DELETE FROM surety.inbox; RETURN NULL; END $$`),
      sql.unsafe("CREATE TRIGGER forget AFTER INSERT ON surety.inbox EXECUTE FUNCTION forget()")
    )
  )

  finds(
    "a takeover that does not count the epoch up",
    [13],
    "at-least-once: a handler whose connections were frozen while another took over settles nothing",
    changed("acquire", "SET epoch = c.epoch + 1", "SET epoch = greatest(c.epoch, 1)")
  )

  finds(
    "messages that are settled when they are claimed",
    [4],
    "exactly-once: what a crashed node was handling is handled by another",
    changed(
      "claim",
      "IF NOT FOUND THEN",
      `UPDATE surety.cursor c SET settled = greatest(c.settled, v_last) WHERE c.consumer_group = p_group AND c.partition = p_partition;
       IF NOT FOUND THEN`
    )
  )

  finds(
    "claims that are not stored",
    [13],
    "at-least-once: what a crashed node was handling is handled by another",
    changed("claim", "SET claimed = greatest(e.claimed, v_last)", "SET claimed = e.claimed")
  )

  finds(
    "offsets that are drawn in another order",
    [11],
    "at-least-once: keeps the order of each key while keys run concurrently",
    changed("publish", "ORDER BY u.ord", "ORDER BY u.ord DESC")
  )

  finds(
    "parking that does not block its key",
    [11],
    "at-least-once: a retry that is due late survives its process, and nothing else is repeated",
    before("INSERT", "redelivery", "NEW.ordered := false; RETURN NEW;")
  )

  finds(
    "a redrive that forgets the inbox",
    [4],
    "exactly-once: a redriven message goes to the group that failed, whole, and to no other",
    before("UPDATE", "inbox", "IF NEW.outcome = 'pending' THEN RETURN NULL; END IF; RETURN NEW;")
  )

  finds(
    "dead letters without their cause",
    [14],
    "exactly-once: what outlives its retries is dead-lettered whole, and blocks nothing",
    before("INSERT", "dead_letter", "NEW.failure_cause := ''; RETURN NEW;")
  )

  finds(
    "publishes that are acknowledged and dropped",
    [4, 16],
    "at-least-once: what was acknowledged survives the end of its publisher at that moment",
    before("INSERT", "log", "IF NEW.id LIKE '%-2' THEN RETURN NULL; END IF; RETURN NEW;")
  )

  finds(
    "acknowledgements that do not wait for the commit to be written",
    [4, 16],
    "at-least-once: what was acknowledged just before the store crashed is handled",
    changed("hold_horizon", "CASE", "CASE WHEN set_config('synchronous_commit', 'off', true) IS NULL THEN NULL"),
    Layer.provide(store, TestPostgres.layerWith({ settings: { wal_writer_delay: "10s" } }))
  )

  finds(
    "a drain that keeps its leases",
    [21],
    "at-least-once: what a consumer that stops had claimed, kept aside and begun is its successor's at once",
    before(
      "UPDATE",
      "lease",
      "IF NEW.holder IS NULL THEN NEW.holder := OLD.holder; NEW.expires_at := OLD.expires_at; END IF; RETURN NEW;"
    )
  )

  finds(
    "attempts that are never forgotten",
    [22],
    "at-least-once: when everything is settled and everybody has left, nothing is kept",
    before("DELETE", "attempt", "RETURN NULL;")
  )
})
