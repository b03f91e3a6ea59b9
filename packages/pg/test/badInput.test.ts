/** Input that is odd, large or hostile: it is data, comes back as it was, or is refused with a typed error. */
import { createHash } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import { Codec, Consumer, DeadLetters, type Envelope, Producer, Topic } from "@surety/core"
import { Effect, Queue, Schema, Stream } from "effect"
import * as SqlClient from "effect/sql/SqlClient"
import { inDatabase, type Node, type Note, note, notes, settled, start, value, values, Work } from "./support/nodes.ts"

/** 10 kB that an index cannot make small. */
const incompressible = Array.from({ length: 160 }, (_, index) =>
  createHash("sha256").update(`${index}`).digest("hex")
).join("")

/** Texts that a quoting, an escape or an index of fixed width would change, confuse or refuse. */
const texts: ReadonlyArray<string> = [
  "plain",
  "\0",
  "\\0",
  "\\",
  "\\\\0",
  "\\N",
  "a\0b",
  "a\\0b",
  "'; DROP TABLE surety.log; --",
  "\"quoted\" 'twice' `thrice` $1 $$ %s {a,NULL}",
  "NULL",
  "🦊👩‍👩‍👧",
  "e\u0301",
  "\u00e9",
  " ",
  "\n\r\t",
  "\ud7ff\ue000\uffff",
  `${"x".repeat(600)}1`,
  `${"x".repeat(600)}2`,
  `${incompressible}1`,
  `${incompressible}2`,
  `${"é".repeat(5000)}`,
  `\\h${"a".repeat(64)}`
]

describe("ids, keys and headers", () => {
  it.live("come back as they were, and are told apart by their exact value", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        const seen: Array<Envelope.Envelope<Note>> = []
        const Odd = notes({ name: "odd", partitions: 4 })
        yield* node.consume(
          Consumer.make(Odd, {
            group: "workers",
            handler: Effect.fnUntraced(function* ({ id }: Note, envelope: Envelope.Envelope<Note>) {
              seen.push(envelope)
              if (id !== envelope.id) return yield* Effect.die("another id")
            })
          })
        )
        // Twice each, so that those which were taken for each other would be missing.
        for (let turn = 0; turn < 2; turn++) {
          for (const text of texts) {
            yield* node.run(
              Producer.publish(Odd, note(text, { body: text }), { key: text, headers: { [text]: text, other: text } })
            )
          }
        }
        yield* settled(2 * texts.length, "odd")
        const expected = texts.map((text) => ({
          id: text,
          key: text,
          headers: { "content-type": "application/json", [text]: text, other: text },
          payload: { id: text, body: text }
        }))
        const byId = (a: { readonly id: string }, b: { readonly id: string }) => (a.id < b.id ? -1 : 1)
        assert.deepStrictEqual(
          seen.map(({ headers, id, key, payload }) => ({ id, key, headers, payload })).toSorted(byId),
          expected.toSorted(byId)
        )
      })
    )
  )

  it.live("are the same in the dead letters", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        for (const text of texts) {
          yield* node.run(Producer.publish(Work, note(text), { key: text, headers: { [text]: text } }))
        }
        class Odd extends Error {
          readonly _tag = "\0 odd \ud800"
        }
        yield* node.consume(
          Consumer.make(Work, {
            group: "workers",
            handler: ({ id }: Note) => Effect.fail(new Odd(`${id}\ud800`))
          }).pipe(Consumer.orDeadLetter)
        )
        yield* settled(texts.length)
        const letters = yield* node.run(
          Effect.flatMap(DeadLetters.DeadLetters, (dead) => Stream.runCollect(dead.list()))
        )
        assert.deepStrictEqual(
          letters.map(({ record: { headers, id, key } }) => ({ id, key, header: headers[id] })),
          texts.map((text) => ({ id: text, key: text, header: text }))
        )
        assert.deepStrictEqual(
          letters.map(({ record: { payload } }) => JSON.parse(new TextDecoder().decode(payload))),
          texts.map((id) => ({ id }))
        )
      })
    )
  )

  for (const [what, options] of Object.entries({
    "an id": { id: "\ud800" },
    "an empty id": { id: "" },
    "a key": { key: "a\udfff" },
    "the name of a header": { headers: { "\ud800": "" } },
    "a header": { headers: { a: "\ud800" } }
  })) {
    it.live(`${what} that cannot be stored is refused, and nothing is sent`, () =>
      inDatabase(
        Effect.gen(function* () {
          const node = yield* start()
          const error = yield* Effect.flip(node.run(Producer.publish(Work, note("a"), options)))
          assert.strictEqual(error.reason._tag, "Invalid")
          assert.strictEqual(yield* value("SELECT count(*)::integer AS value FROM surety.log"), 0)
        })
      )
    )
  }
})

const mebibyte = 1024 * 1024

describe("payloads", () => {
  const Bytes = Topic.make("bytes", { schema: Schema.Uint8Array, guarantee: "exactly-once", partitions: 1 })
  /** The bytes as they are, where JSON would have quotes. */
  const raw = Codec.layer({
    contentType: "application/octet-stream",
    encode: (json) => Buffer.from(json as string, "base64"),
    decode: (bytes) => Buffer.from(bytes).toString("base64")
  })

  const sizes = (node: Node, count: number) =>
    Effect.gen(function* () {
      const received = yield* Queue.unbounded<number>()
      yield* Effect.scoped(
        Effect.andThen(
          node.consume(
            Consumer.make(Bytes, {
              group: "workers",
              handler: (bytes: Uint8Array) => Queue.offer(received, bytes.length)
            })
          ),
          settled(count, "bytes")
        )
      )
      return yield* Queue.clear(received)
    })

  it.live("of no bytes at all go through", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        yield* node.run(Producer.publishAll(Bytes, [new Uint8Array(), new Uint8Array([0]), new Uint8Array()]))
        assert.deepStrictEqual(yield* sizes(node, 3), [0, 1, 0])
        assert.deepStrictEqual(
          yield* values("SELECT length(payload) AS value FROM surety.log ORDER BY log_offset"),
          [0, 1, 0]
        )
      }).pipe(Effect.provide(raw))
    )
  )

  it.live("over the limit are refused, with those that were to be stored with them", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start()
        const error = yield* Effect.flip(
          node.run(Producer.publishAll(Bytes, [new Uint8Array(1), new Uint8Array(10 * mebibyte)]))
        )
        assert.strictEqual(error.reason._tag, "NotSent")
        assert.isFalse(error.isRetryable)
        assert.match(error.message, /has \d+ bytes, over the limit of 1048576; .* raise maxRecordBytes/)
        const inTransaction = yield* Effect.flip(
          node.run(
            Effect.flatMap(SqlClient.SqlClient, (sql) =>
              sql.withTransaction(Producer.publish(Bytes, new Uint8Array(10 * mebibyte)))
            )
          )
        )
        assert.propertyVal(inTransaction, "_tag", "PublishError")
        assert.strictEqual(yield* value("SELECT count(*)::integer AS value FROM surety.log"), 0)
      }).pipe(Effect.provide(raw))
    )
  )

  it.live("of 10 MiB go through where the limit is raised, alone, together, and published by a handler", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start({ maxRecordBytes: 24 * mebibyte })
        const large = new Uint8Array(10 * mebibyte).fill(7)
        yield* node.run(Producer.publish(Bytes, large))
        yield* node.run(Producer.publishAll(Bytes, [large, new Uint8Array(1), large]))
        // More than a message of the protocol may have where the client says nothing.
        yield* node.run(Producer.publish(Bytes, new Uint8Array(20 * mebibyte)))
        assert.deepStrictEqual(yield* sizes(node, 5), [large.length, large.length, 1, large.length, 2 * large.length])
        const Trigger = Topic.make("trigger", { schema: Schema.Uint8Array, guarantee: "exactly-once", partitions: 1 })
        yield* node.run(Producer.publish(Trigger, new Uint8Array()))
        yield* node.consume(
          Consumer.make(Trigger, { group: "workers", handler: () => Effect.orDie(Producer.publish(Bytes, large)) })
        )
        yield* settled(1, "trigger")
        assert.deepStrictEqual(yield* sizes(node, 6), [large.length])
      }).pipe(Effect.provide(raw))
    )
  )
})
