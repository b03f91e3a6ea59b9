/**
 * A connection that is cut before and after each message which the client sends,
 * in turn: after the recovery the effect is there once, the inbox row once, the
 * outgoing message once, and nothing is both handled and dead-lettered.
 */

import { createHash } from "node:crypto"
import { setImmediate } from "node:timers/promises"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import { Consumer, Producer } from "@surety/core"
import { Data, Effect, Queue, Redacted } from "effect"
import {
  effect,
  forgetInbox,
  inDatabase,
  type Note,
  note,
  Out,
  settled,
  start,
  TestDatabase,
  until,
  value,
  values,
  Work
} from "./support/nodes.ts"
import { type When, Wire } from "./support/wire.ts"

class Refused extends Data.TaggedError("Refused") {}

/** A process whose connections run over a wire, and one whose connections do not. */
const setup = Effect.gen(function* () {
  const { url } = yield* TestDatabase
  const wire = new Wire(Redacted.value(url))
  const node = yield* start({ client: { applicationName: "wire", maxConnections: 1, stream: wire.stream } })
  return { node, wire, other: yield* start() }
})
type Setup = Effect.Success<typeof setup>

/** What a handler does, by how often it ran before for this message. */
const behaviours = {
  "is handled": () => Effect.void,
  "is refused": () => new Refused(),
  // What a lost reply to its COMMIT would turn into a dead letter, were it not settled (rule 12).
  "is handled once, and refused ever after": (before: number) => (before === 0 ? Effect.void : new Refused())
} satisfies Record<string, (before: number) => Effect.Effect<void, Refused>>

let messages = 0

/** Settles one message over the wire, and waits until the consumer has ended. */
const settleOne = Effect.fnUntraced(function* (
  { node, other }: Setup,
  behaviour: (before: number) => Effect.Effect<void, Refused>
) {
  const id = `m${++messages}`
  let runs = 0
  yield* other.publish(note(id))
  const all = yield* value<number>(
    "SELECT count(*)::integer AS value FROM surety.log l JOIN surety.topic t ON t.id = l.topic WHERE t.name = 'work'"
  )
  yield* Effect.scoped(
    Effect.andThen(
      node.consume(
        Consumer.make(Work, {
          group: "workers",
          handler: Effect.fnUntraced(function* (payload: Note) {
            yield* effect(payload.id)
            yield* Effect.orDie(Producer.publish(Out, payload.id))
            yield* behaviour(runs++)
          })
        }).pipe(Consumer.orDeadLetter)
      ),
      settled(all)
    )
  )
  return id
})

/** How a message ended: rows of the handler, of the outbox, of the dead letters, and of the inbox. */
const outcome = (id: string) =>
  value<string>(
    `SELECT concat_ws(' ',
      (SELECT count(*) FROM effect WHERE id = $1),
      (SELECT count(*) FROM surety.log l JOIN surety.topic t ON t.id = l.topic WHERE t.name = 'out' AND l.id = $1),
      (SELECT count(*) FROM surety.dead_letter WHERE id = $1),
      (SELECT string_agg(outcome, ' ') FROM surety.inbox WHERE id = $1)) AS value`,
    id
  )
const handled = "1 1 0 handled"
const dead = "0 0 1 dead"

/** Lets a client see that its idle connections are gone. */
const noticed = Effect.promise(() => setImmediate())

/** Cuts at each of the messages that the step sends, and runs the step each time. The step may tell how many count. */
const cutEverywhere = Effect.fnUntraced(function* <E, R>(
  wire: Wire,
  app: string,
  step: (at: number, when: When) => Effect.Effect<void, E, R>,
  counted: () => number = () => wire.sent
) {
  wire.arm(app, Infinity, "before")
  yield* noticed
  yield* step(0, "before")
  const sent = counted()
  for (const when of ["before", "after"] as const) {
    for (let at = 1; at <= sent; at++) {
      wire.arm(app, at, when)
      yield* noticed
      yield* step(at, when)
      wire.disarm()
    }
  }
  return sent
})

describe("a settlement whose connection is cut at each message", () => {
  for (const [how, behaviour] of Object.entries(behaviours)) {
    it.live(`of a message that ${how}`, () =>
      inDatabase(
        Effect.gen(function* () {
          const processes = yield* setup
          const { wire } = processes
          const expected = how === "is handled" ? [handled] : how === "is refused" ? [dead] : [handled, dead]
          const seen = new Set<string>()
          const sent = yield* cutEverywhere(wire, "wire", (at, when) =>
            Effect.gen(function* () {
              const id = yield* settleOne(processes, behaviour)
              assert.strictEqual(wire.cut, at > 0)
              const ended = yield* outcome(id)
              seen.add(ended)
              assert.include(expected, ended, `cut ${when} message ${at}`)
            })
          )
          // Startup, three rounds of authentication, and at least seven statements.
          assert.isAbove(sent, 30)
          assert.sameMembers(Array.from(seen), expected)
          assert.deepStrictEqual(yield* values("SELECT failures AS value FROM surety.attempt WHERE failures > 0"), [])
        })
      )
    )
  }

  it.live("does its work twice where the inbox forgets: the test can fail", () =>
    inDatabase(
      Effect.gen(function* () {
        const processes = yield* setup
        const { wire } = processes
        yield* forgetInbox
        wire.arm("wire", Infinity, "after")
        yield* settleOne(processes, behaviours["is handled"])
        // The last message is the COMMIT's.
        wire.arm("wire", wire.sent, "after")
        assert.strictEqual(yield* outcome(yield* settleOne(processes, behaviours["is handled"])), "2 2 0")
      })
    )
  )
})

describe("a publish whose connection is cut at each message", () => {
  const copies = (id: string) => value<number>("SELECT count(*)::integer AS value FROM surety.log WHERE id = $1", id)

  it.live("is repeated under its id until it is acknowledged, and handled once", () =>
    inDatabase(
      Effect.gen(function* () {
        const { node, other, wire } = yield* setup
        // What a publish tells others uses the same connections: it is waited for.
        const sql = yield* PgClient.PgClient
        const told = yield* sql.listen(`surety_${createHash("sha256").update("surety").digest("hex").slice(0, 16)}`)
        yield* node.publish(note("first"))
        yield* Queue.take(told)
        const ids = ["first"]
        const twice: Array<string> = []
        const sent = yield* cutEverywhere(
          wire,
          "wire:control",
          (at, when) =>
            Effect.gen(function* () {
              const id = `${when} ${at}`
              yield* node.publish(note(id))
              const { cut } = wire
              wire.disarm()
              assert.strictEqual(cut, at > 0)
              ids.push(id)
              const stored = yield* copies(id)
              assert.include([1, 2], stored)
              if (stored === 2) twice.push(id)
              yield* Queue.take(told)
            }),
          () => wire.sentUntil(".publish(")
        )
        // Only the reply to the INSERT itself can be lost after it was stored.
        assert.deepStrictEqual(twice, [`after ${sent}`])
        yield* other.consume(Consumer.make(Work, { group: "workers", handler: ({ id }: Note) => effect(id) }))
        yield* settled(ids.length + 1)
        assert.deepStrictEqual((yield* values<string>("SELECT id AS value FROM effect")).toSorted(), ids.toSorted())
      })
    )
  )

  it.live("in a transaction of the app's is there if and only if it committed", () =>
    inDatabase(
      Effect.gen(function* () {
        const { node, wire } = yield* setup
        yield* node.publish(note("first"))
        let unknown = 0
        yield* cutEverywhere(wire, "wire", (at, when) =>
          Effect.gen(function* () {
            const id = `${when} ${at}`
            const exit = yield* Effect.flatMap(PgClient.PgClient, (sql) =>
              sql.withTransaction(Effect.andThen(effect(id), Producer.publish(Work, note(id))))
            ).pipe(Effect.exit, node.run)
            assert.strictEqual(wire.cut, at > 0)
            assert.strictEqual(exit._tag, at > 0 ? "Failure" : "Success")
            yield* until(
              "its session has ended",
              value<boolean>(
                "SELECT count(*) = 0 AS value FROM pg_stat_activity WHERE application_name = 'wire' AND state <> 'idle' AND datname = current_database()"
              )
            )
            const done = yield* value<number>("SELECT count(*)::integer AS value FROM effect WHERE id = $1", id)
            assert.strictEqual(yield* copies(id), done)
            if (at > 0) unknown += done
          })
        )
        // A COMMIT is done once it is executed: before the last message, and after each of the last two.
        assert.strictEqual(unknown, 3)
      })
    )
  )
})
