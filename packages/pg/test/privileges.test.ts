/** Roles that may do little: what they need is enough, and what they lack is named. */
import { randomUUID } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import { Consumer, Producer, Topic, Transport } from "@surety/core"
import { Effect } from "effect"
import * as SqlClient from "effect/sql/SqlClient"
import { effect, effects, inDatabase, type Note, note, settled, start, value, values, Work } from "./support/nodes.ts"

/** A role with what the documentation names, except for the sequences. */
const withoutSequences = Effect.gen(function* () {
  const role = `role_${randomUUID().replaceAll("-", "")}`
  yield* Effect.acquireRelease(values(`CREATE ROLE ${role}`), () =>
    Effect.ignore(Effect.andThen(values(`DROP OWNED BY ${role}`), values(`DROP ROLE ${role}`)))
  )
  yield* values(`GRANT USAGE ON SCHEMA surety TO ${role}`)
  yield* values(`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA surety TO ${role}`)
  return role
})

const declared = Effect.gen(function* () {
  const owner = yield* start()
  yield* owner.run(Effect.flatMap(Transport.Transport, (transport) => transport.declare(Topic.declaration(Work))))
  return owner
})

const startAs = (role: string) => start({ migrations: "verify", client: { startupParameters: { role } } })

describe("a role without privileges on a topic's sequence", () => {
  for (const used of [false, true]) {
    it.live(`is refused, by name, where the sequence was ${used ? "" : "never "}used`, () =>
      inDatabase(
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const owner = yield* declared
          if (used) yield* owner.publish(note("a"))
          const role = yield* withoutSequences
          const node = yield* startAs(role)
          const error = yield* Effect.flip(node.run(Producer.publish(Work, note("b"))))
          // Up to PostgreSQL 16 the server refuses by itself to tell where the sequence is.
          const sentence = (yield* value<boolean>(
            "SELECT current_setting('server_version_num')::integer < 170000 AS value"
          ))
            ? /permission denied for sequence offset_1/
            : new RegExp(`permission denied for sequence surety.offset_1: grant USAGE and SELECT on it to ${role}`)
          assert.match(error.message, sentence)
          const refused = yield* Effect.flip(
            sql.withTransaction(
              Effect.andThen(values(`SET LOCAL ROLE ${role}`), values("SELECT surety.horizon(1) AS value"))
            )
          )
          assert.strictEqual(refused.reason._tag, "AuthorizationError")
          assert.match(`${refused.reason.cause}`, sentence)
        })
      )
    )
  }
})

it.live("a role with the privileges that are documented publishes and consumes", () =>
  inDatabase(
    Effect.gen(function* () {
      yield* declared
      const role = yield* withoutSequences
      yield* values(`GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA surety TO ${role}`)
      yield* values(`GRANT INSERT ON effect TO ${role}`)
      yield* values(`GRANT USAGE ON SEQUENCE effect_seq_seq TO ${role}`)
      const node = yield* startAs(role)
      yield* node.consume(Consumer.make(Work, { group: "workers", handler: ({ id }: Note) => effect(id) }))
      yield* node.publish(note("a"), note("b"))
      yield* settled(2)
      assert.deepStrictEqual(yield* effects, ["a", "b"])
    })
  )
)

it.live("a role that owns a schema which was made for it migrates it, without the privilege to make one", () =>
  inDatabase(
    Effect.gen(function* () {
      const role = `role_${randomUUID().replaceAll("-", "")}`
      yield* Effect.acquireRelease(values(`CREATE ROLE ${role}`), () =>
        Effect.ignore(Effect.andThen(values(`DROP OWNED BY ${role} CASCADE`), values(`DROP ROLE ${role}`)))
      )
      yield* values(`CREATE SCHEMA made_before AUTHORIZATION ${role}`)
      const refused = yield* Effect.flip(start({ schema: "another", client: { startupParameters: { role } } }))
      assert.match(`${refused}`, /permission denied/)
      const node = yield* start({ schema: "made_before", client: { startupParameters: { role } } })
      yield* node.publish(note("a"))
    })
  )
)
