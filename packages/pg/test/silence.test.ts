/** Connections that stay open and say nothing more, as when a firewall has forgotten them, and servers that do not answer. */
import { assert, describe, it } from "@effect/vitest"
import { Consumer, type Envelope } from "@surety/core"
import * as WireFaults from "@surety/testing/WireFaults"
import { Clock, Effect, Exit, Scope } from "effect"
import {
  effect,
  effects,
  inDatabase,
  type Note,
  note,
  settled,
  start,
  TestDatabase,
  until,
  value,
  values,
  Work
} from "./support/nodes.ts"

const onWire = Effect.fnUntraced(function* (lease: number) {
  const { url } = yield* TestDatabase
  const wire = WireFaults.make(url)
  return {
    wire,
    node: yield* start({ lease, client: { stream: wire.stream } }),
    other: yield* start({ client: { applicationName: "other" } })
  }
})

const consumer = Consumer.make(Work, {
  group: "workers",
  handler: ({ id }: Note, { epoch }: Envelope.Envelope<Note>) => effect(id, `epoch ${epoch}`)
})

const epochs = values<string>("SELECT DISTINCT note AS value FROM effect ORDER BY 1")

describe("a connection that falls silent", { concurrent: true }, () => {
  it.live("under the first heartbeat does not end the consumer", () =>
    inDatabase(
      Effect.gen(function* () {
        const { node, wire } = yield* onWire(1000)
        const resume = yield* wire.silence("app:leases")
        // Returns once that heartbeat is given up.
        yield* node.consume(consumer)
        assert.strictEqual(yield* value("SELECT count(*)::integer AS value FROM surety.member"), 0)
        yield* resume
        yield* node.publish(note("a"))
        yield* settled(1)
      })
    )
  )

  it.live("under a heartbeat costs no lease", () =>
    inDatabase(
      Effect.gen(function* () {
        const { node, other, wire } = yield* onWire(12_000)
        yield* node.consume(consumer)
        yield* other.publish(note("a"))
        yield* settled(1)
        const before = yield* value<Date>("SELECT expires_at AS value FROM surety.lease")
        yield* wire.silence("app:leases", "now")
        yield* until(
          "the lease has been renewed over another one",
          value<boolean>("SELECT expires_at > $1 AS value FROM surety.lease", before)
        )
        yield* other.publish(note("b"))
        yield* settled(2)
        assert.deepStrictEqual(yield* epochs, ["epoch 1"])
      })
    )
  )

  it.live("under a claim does not hold up its partition", () =>
    inDatabase(
      Effect.gen(function* () {
        const { node, other, wire } = yield* onWire(2000)
        yield* node.consume(consumer)
        yield* other.publish(note("a"))
        yield* settled(1)
        yield* wire.silence("app:control", "now")
        yield* other.publish(note("b"))
        yield* settled(2)
        assert.deepStrictEqual(yield* epochs, ["epoch 1"])
      })
    )
  )

  it.live("under publishes does not lose or hold up them for ever", () =>
    inDatabase(
      Effect.gen(function* () {
        const { node, wire } = yield* onWire(2000)
        const ids = Array.from({ length: 20 }, (_, index) => `m${index}`)
        const publish = Effect.forEach(ids, (id) => node.publish(note(id)), { concurrency: "unbounded" })
        yield* publish
        yield* wire.silence("app:control", "now")
        yield* publish
        yield* node.consume(consumer)
        yield* until(
          "all are settled, in spite of repeated ones",
          value<boolean>("SELECT settled = (SELECT max(log_offset) FROM surety.log) AS value FROM surety.cursor")
        )
        assert.deepStrictEqual((yield* effects).toSorted(), ids.toSorted())
      })
    )
  )
})

describe("a server that does not answer", { concurrent: true }, () => {
  it.live("a BEGIN does not hold up the partition for ever", () =>
    inDatabase(
      Effect.gen(function* () {
        const { node, other, wire } = yield* onWire(1000)
        yield* node.consume(consumer)
        yield* other.publish(note("a"))
        yield* settled(1)
        const resume = yield* wire.silence("app", "now")
        yield* other.publish(note("b"))
        yield* settled(2)
        assert.deepStrictEqual(yield* effects, ["a", "b"])
        // The app's client waits for it as it is closed.
        yield* resume
      })
    )
  )

  it.live("a COMMIT does not hold up the partition for ever, nor is its session in the way of the repeat", () =>
    inDatabase(
      Effect.gen(function* () {
        yield* values("CREATE TABLE hanging AS SELECT")
        yield* values(`CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS $$
          BEGIN IF EXISTS (SELECT FROM hanging) THEN PERFORM pg_sleep(3600); END IF; RETURN NULL; END $$`)
        yield* values(
          "CREATE CONSTRAINT TRIGGER hang AFTER INSERT ON effect INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hang()"
        )
        const node = yield* start({ lease: 1000 })
        yield* node.consume(consumer)
        yield* node.publish(note("a"))
        yield* until(
          "the commit hangs",
          value<boolean>(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query = 'COMMIT' AND state = 'active') AS value"
          )
        )
        yield* values("DROP TABLE hanging")
        yield* values("CREATE TABLE hanging (nothing integer)")
        yield* settled(1)
        assert.deepStrictEqual(yield* effects, ["a"])
      })
    )
  )

  it.live(
    "does not keep an app from stopping, and its successor has the partition when the lease is over",
    ({ annotate }) =>
      inDatabase(
        Effect.gen(function* () {
          const { url } = yield* TestDatabase
          const wire = WireFaults.make(url)
          const scope = yield* Scope.make()
          const node = yield* Scope.provide(start({ lease: 2000, client: { stream: wire.stream } }), scope)
          yield* Scope.provide(node.consume(consumer), scope)
          yield* node.publish(note("a"))
          yield* settled(1)
          yield* wire.silence()
          const from = yield* Clock.currentTimeMillis
          yield* Scope.close(scope, Exit.void)
          const took = (yield* Clock.currentTimeMillis) - from
          yield* Effect.promise(() => annotate(`stopped after ${took} ms`))
          const successor = yield* start({ lease: 2000 })
          yield* successor.consume(consumer)
          yield* successor.publish(note("b"))
          yield* settled(2)
          assert.deepStrictEqual(yield* effects, ["a", "b"])
        })
      )
  )
})
