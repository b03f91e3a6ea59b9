/**
 * A connection that is cut before and after each message which the client sends,
 * in turn, or falls silent there: after the recovery the effect is there once,
 * the inbox row once, the outgoing message once, and nothing is both handled and
 * dead-lettered.
 */

import { createHash } from "node:crypto"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import { Consumer, DeadLetters, Producer } from "@surety/core"
import type * as PgOutbox from "@surety/pg/PgOutbox"
import * as PgSchema from "@surety/pg/PgSchema"
import * as SuretyPg from "@surety/pg/SuretyPg"
import * as WireFaults from "@surety/testing/WireFaults"
import { Console, Context, Data, Effect, Layer, Queue } from "effect"
import { connect, makeBroker, startAcross } from "./support/across.ts"
import {
  dead,
  effect,
  forgetInbox,
  handled,
  inDatabase,
  type Note,
  note,
  notes,
  Out,
  outcome,
  settled,
  start,
  TestDatabase,
  until,
  value,
  values,
  Work
} from "./support/nodes.ts"

/** A machine that is busy takes its time. */
const busy = { timeout: 300_000 }

class Refused extends Data.TaggedError("Refused") {}

/** A process whose connections run over a wire, and one whose connections do not. */
const setupWith = Effect.fnUntraced(function* (options: PgSchema.Options) {
  const { url } = yield* TestDatabase
  const wire = WireFaults.make(url)
  const node = yield* start({ ...options, client: { applicationName: "wire", maxConnections: 1, stream: wire.stream } })
  return { node, wire, other: yield* start() }
})
const setup = setupWith({})
type Setup = Effect.Success<typeof setup>

type Options<E, R> = Parameters<typeof WireFaults.enumerate<E, R>>[1]

/** The connections of the app's client, unless others are meant: each point is met, and how many they are is printed. */
const enumerate = Effect.fnUntraced(function* <E, R>(
  { wire }: Pick<Setup, "wire">,
  what: string,
  options: Options<E, R>
) {
  const report = yield* WireFaults.enumerate(wire, { application: "wire", ...options })
  assert.deepStrictEqual(report.missed, [])
  yield* Console.log(`${what}: ${report.points} points over ${report.messages} messages`)
  return report
})

/** What a handler does, by how often it ran before for this message. */
const behaviours = {
  "is handled": () => Effect.void,
  "is refused": () => new Refused(),
  // What a lost reply to its COMMIT would turn into a dead letter, were it not settled (rule 12).
  "is handled once, and refused ever after": (before: number) => (before === 0 ? Effect.void : new Refused())
} satisfies Record<string, (before: number) => Effect.Effect<void, Refused>>

const handle = Effect.fnUntraced(function* ({ id }: Note) {
  yield* effect(id)
  yield* Effect.orDie(Producer.publish(Out, id))
})

const stored = value<number>(
  "SELECT count(*)::integer AS value FROM surety.log l JOIN surety.topic t ON t.id = l.topic WHERE t.name = 'work'"
)

/** Whether the transaction of this name has committed: the rows of its effect. */
const committedIn = (name: string) => value<number>("SELECT count(*)::integer AS value FROM effect WHERE id = $1", name)

const wireIsIdle = until(
  "its session has ended",
  value<boolean>(
    "SELECT count(*) = 0 AS value FROM pg_stat_activity WHERE application_name = 'wire' AND state <> 'idle' AND datname = current_database()"
  )
)

let messages = 0

/** Settles one message over the wire, and waits until the consumer has ended. */
const settleOne = Effect.fnUntraced(function* (
  { node, other }: Setup,
  behaviour: (before: number) => Effect.Effect<void, Refused>
) {
  const id = `m${++messages}`
  let runs = 0
  yield* other.publish(note(id))
  const all = yield* stored
  yield* Effect.scoped(
    Effect.andThen(
      node.consume(
        Consumer.make(Work, {
          group: "workers",
          handler: (payload: Note) => Effect.andThen(handle(payload), behaviour(runs++))
        }).pipe(Consumer.orDeadLetter)
      ),
      settled(all)
    )
  )
  return id
})

describe.concurrent("a settlement whose connection is cut at each message", busy, () => {
  for (const [how, behaviour] of Object.entries(behaviours)) {
    it.live(`of a message that ${how}`, () =>
      inDatabase(
        Effect.gen(function* () {
          const processes = yield* setup
          const expected = how === "is handled" ? [handled] : how === "is refused" ? [dead] : [handled, dead]
          const seen = new Set<string>()
          const report = yield* enumerate(processes, `a message that ${how}`, {
            flow: () =>
              Effect.gen(function* () {
                const ended = yield* outcome(yield* settleOne(processes, behaviour))
                seen.add(ended)
                assert.include(expected, ended)
              })
          })
          // Startup, three rounds of authentication, and at least seven statements.
          assert.isAbove(report.messages, 30)
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
        const cutAt = (at: number) => wire.arm({ application: "wire", at, fault: WireFaults.cutAfter })
        yield* cutAt(Infinity)
        yield* settleOne(processes, behaviours["is handled"])
        // The last message is the COMMIT's.
        yield* cutAt(wire.messages.length)
        assert.strictEqual(yield* outcome(yield* settleOne(processes, behaviours["is handled"])), "2 2 0")
      })
    )
  )
})

describe.concurrent("a settlement whose connection", busy, () => {
  const silence = 60
  const faults = {
    "falls silent at each message": {
      faults: [WireFaults.withhold(silence)],
      count: (sent: ReadonlyArray<unknown>) => sent.length
    },
    "answers late from some message on": { faults: [WireFaults.delay(20)], count: () => 12 },
    "comes in pieces": { faults: [WireFaults.split(1), WireFaults.split(3, 5, 1)], count: () => 1 }
  }
  for (const [how, what] of Object.entries(faults)) {
    it.live(`${how}`, () =>
      inDatabase(
        Effect.gen(function* () {
          const processes = yield* setup
          yield* enumerate(processes, `a settlement whose connection ${how}`, {
            ...what,
            flow: () =>
              Effect.gen(function* () {
                assert.strictEqual(yield* outcome(yield* settleOne(processes, behaviours["is handled"])), handled)
              })
          })
        })
      )
    )
  }
})

describe.concurrent("a batch whose connection is cut at each message", busy, () => {
  it.live("is settled as a whole, but for the message at fault", () =>
    inDatabase(
      Effect.gen(function* () {
        const processes = yield* setup
        const { node, other } = processes
        yield* enumerate(processes, "a batch", {
          flow: () =>
            Effect.gen(function* () {
              const batch = ++messages
              const ids = ["a", "poison"].map((name) => `${name}${batch}`)
              yield* other.publish(...ids.map((id) => note(id)))
              const all = yield* stored
              yield* Effect.scoped(
                Effect.andThen(
                  node.consume(
                    Consumer.makeBatch(Work, {
                      group: "workers",
                      maxSize: 2,
                      handler: Effect.fnUntraced(function* (messages) {
                        yield* Effect.forEach(messages, ({ payload }) => handle(payload))
                        if (messages.some(({ id }) => id.startsWith("poison"))) return yield* new Refused()
                      })
                    }).pipe(Consumer.orDeadLetter)
                  ),
                  settled(all)
                )
              )
              assert.deepStrictEqual(yield* Effect.forEach(ids, outcome), [handled, dead])
            })
        })
        assert.deepStrictEqual(yield* values("SELECT failures AS value FROM surety.attempt WHERE failures > 0"), [])
      })
    )
  )
})

describe.concurrent("a redrive whose connection is cut at each message", busy, () => {
  it.live("hands each dead letter to its group, and it is handled once", () =>
    inDatabase(
      Effect.gen(function* () {
        // Looking for what is due uses the same connections: it would be counted now and then.
        const processes = yield* setupWith({ pollInterval: "1 hour" })
        const { node, other } = processes
        const refused = new Set<string>()
        yield* other.consume(
          Consumer.make(Work, {
            group: "workers",
            handler: Effect.fnUntraced(function* (payload: Note) {
              yield* handle(payload)
              if (!refused.has(payload.id)) {
                refused.add(payload.id)
                return yield* new Refused()
              }
            })
          }).pipe(Consumer.orDeadLetter)
        )
        const ends = (id: string, expected: string) =>
          until(
            `${id} ends as ${expected}`,
            Effect.map(outcome(id), (ended) => ended === expected)
          )
        const redrive = Effect.flatMap(DeadLetters.DeadLetters, ({ redrive }) => redrive({ group: "workers" }))
        yield* enumerate(processes, "a redrive", {
          application: "wire:control",
          flow: () =>
            Effect.gen(function* () {
              const id = `m${++messages}`
              yield* other.publish(note(id))
              yield* ends(id, dead)
              yield* node.run(Effect.retry(redrive, { times: 1 }))
              yield* ends(id, handled)
            })
        })
      })
    )
  )
})

describe.concurrent("a publish whose connection is cut at each message", busy, () => {
  const copies = (id: string) => value<number>("SELECT count(*)::integer AS value FROM surety.log WHERE id = $1", id)

  it.live("is repeated under its id until it is acknowledged, and handled once", () =>
    inDatabase(
      Effect.gen(function* () {
        const processes = yield* setup
        const { node, other } = processes
        // What a publish tells others uses the same connections: it is waited for.
        const sql = yield* PgClient.PgClient
        const told = yield* sql.listen(`surety_${createHash("sha256").update("surety").digest("hex").slice(0, 16)}`)
        yield* node.publish(note("first"))
        yield* Queue.take(told)
        const ids = ["first"]
        const twice: Array<number> = []
        const { messages } = yield* enumerate(processes, "a publish", {
          application: "wire:control",
          count: (sent) => sent.findLastIndex(({ statement }) => statement?.includes("hold_horizon")) + 1,
          flow: ({ at, name }) =>
            Effect.gen(function* () {
              yield* node.publish(note(name))
              ids.push(name)
              const stored = yield* copies(name)
              assert.include([1, 2], stored)
              if (stored === 2) twice.push(at)
              yield* Queue.take(told)
            })
        })
        // Only the reply to the INSERT itself can be lost after it was stored.
        assert.deepStrictEqual(twice, [messages])
        yield* other.consume(Consumer.make(Work, { group: "workers", handler: ({ id }: Note) => effect(id) }))
        yield* settled(ids.length + 1)
        assert.deepStrictEqual((yield* values<string>("SELECT id AS value FROM effect")).toSorted(), ids.toSorted())
      })
    )
  )

  it.live("in a transaction of the app's is there if and only if it committed", () =>
    inDatabase(
      Effect.gen(function* () {
        const processes = yield* setup
        const { node } = processes
        yield* node.publish(note("first"))
        let unknown = 0
        yield* enumerate(processes, "a publish in a transaction", {
          flow: ({ at, name }) =>
            Effect.gen(function* () {
              const exit = yield* Effect.flatMap(PgClient.PgClient, (sql) =>
                sql.withTransaction(Effect.andThen(effect(name), Producer.publish(Work, note(name))))
              ).pipe(Effect.exit, node.run)
              assert.strictEqual(exit._tag, at > 0 ? "Failure" : "Success")
              yield* wireIsIdle
              const done = yield* committedIn(name)
              assert.strictEqual(yield* copies(name), done)
              if (at > 0) unknown += done
            })
        })
        // A COMMIT is done once it is executed: before the last message, and after each of the last two.
        assert.strictEqual(unknown, 3)
      })
    )
  )
})

describe.concurrent("a relay whose connection is cut at each message", busy, () => {
  const Transfers = notes({ name: "transfers" })

  /** A process that sends over a wire, while a flow asks it to, and one that publishes. */
  const setupAcross = Effect.fnUntraced(function* (other: PgOutbox.RelayOptions) {
    const { url } = yield* TestDatabase
    const wire = WireFaults.make(url)
    const broker = yield* makeBroker()
    const target = yield* connect(broker)
    // Looking for what is due uses the same connections: it would be counted now and then.
    const schema = yield* PgSchema.layerWith({ pollInterval: "1 hour" }).pipe(
      Layer.provideMerge(PgClient.layer({ url, applicationName: "wire", maxConnections: 1, stream: wire.stream })),
      Layer.fresh,
      Layer.build
    )
    /** The composition, within a scope. */
    const across = (options: PgOutbox.RelayOptions) =>
      Effect.map(
        Effect.provideContext(
          Layer.build(SuretyPg.layerAcross({ shards: 1, ...options })),
          Context.merge(target, schema)
        ),
        (context) => Context.merge(context, schema)
      )
    const holds = (id: string) => broker.holds("transfers").filter((held) => held === id).length
    const sent = (...ids: ReadonlyArray<string>) =>
      until(
        `${ids.join(" and ")} are sent`,
        Effect.sync(() => ids.every((id) => holds(id) > 0))
      )
    return { across, broker, holds, other: yield* startAcross(broker, { relay: { shards: 1, ...other } }), sent, wire }
  })

  const relayed = until(
    "what was sent is settled",
    value<boolean>(
      `SELECT NOT EXISTS (SELECT FROM surety.log l JOIN surety.topic t ON t.id = l.topic
        JOIN surety.consumer_group g ON g.topic = t.id
        JOIN surety.cursor c ON c.consumer_group = g.id AND c.partition = l.partition
        WHERE t.name = 'surety.outbox.memory' AND l.log_offset > c.settled) AS value`
    )
  )

  it.live("sends what was published, in order", () =>
    inDatabase(
      Effect.gen(function* () {
        const { across, broker, other, sent, wire } = yield* setupAcross({ send: false })
        // Its pool opens more connections in some runs than in others, whose messages others need not come to.
        const { messages, points } = yield* WireFaults.enumerate(wire, {
          application: "wire:control",
          // Until what was sent is settled.
          count: (messages) => messages.findLastIndex(({ statement }) => statement?.startsWith("WITH passed")) + 1,
          flow: ({ name }) =>
            Effect.gen(function* () {
              const ids = [1, 2, 3].map((n) => `${name}, ${n}`)
              yield* other.run(
                Producer.publishAll(
                  Transfers,
                  ids.map((id) => note(id, { key: "k" }))
                )
              )
              // A process that cannot even begin is started again.
              yield* Effect.retry(Effect.scoped(Effect.andThen(across({}), Effect.andThen(sent(...ids), relayed))), {
                times: 1
              })
              const copies = broker.holds("transfers").filter((id) => ids.includes(id))
              assert.deepStrictEqual(Array.from(new Set(copies)), ids)
            })
        })
        assert.isAbove(points, 0)
        yield* Console.log(`a relay: ${points} points over ${messages} messages`)
      })
    )
  )

  it.live("sends what a transaction publishes, if and only if it commits", () =>
    inDatabase(
      Effect.gen(function* () {
        const { across, holds, other, sent, wire } = yield* setupAcross({})
        const services = yield* across({ send: false, name: "memory" })
        const sql = Context.get(services, PgClient.PgClient)
        let last = 0
        yield* enumerate({ wire }, "a publish to another system, in a transaction", {
          flow: ({ at, name }) =>
            Effect.gen(function* () {
              const exit = yield* Effect.andThen(effect(name), Producer.publish(Transfers, note(name))).pipe(
                sql.withTransaction,
                Effect.exit,
                Effect.provideContext(services)
              )
              assert.strictEqual(exit._tag, at > 0 ? "Failure" : "Success")
              yield* wireIsIdle
              const committed = yield* committedIn(name)
              const sentinel = `last ${++last}`
              yield* other.run(Producer.publish(Transfers, note(sentinel)))
              yield* sent(sentinel)
              assert.strictEqual(holds(name), committed)
            })
        })
      })
    )
  )
})
