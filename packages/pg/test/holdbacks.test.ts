/** POSTGRES.md, rule 8: it is told who keeps what is stored from being read. */
import { assert, describe, it } from "@effect/vitest"
import { Producer, Transport } from "@surety/core"
import { Effect } from "effect"
import { inLab, Log } from "./support/lab.ts"

const holdbacks = Effect.flatMap(Transport.Transport, (transport) => transport.holdbacks!(Log.name))

describe("what holds the publish horizon back", () => {
  it.effect("is named with its process, its app and its age, for as long as its transaction is open", () =>
    inLab((lab) =>
      Effect.gen(function* () {
        assert.deepStrictEqual(yield* holdbacks, [])
        const first = yield* lab.open(
          Effect.andThen(lab.sql`SET LOCAL application_name = 'nightly import'`, Producer.publish(Log, "late"))
        )
        const second = yield* lab.open(Producer.publish(Log, "later"))
        yield* lab.publish("early")
        assert.deepStrictEqual(yield* lab.read, [])
        const [oldest, ...others] = yield* holdbacks
        assert.match(oldest!.by, /^backend \d+, of "nightly import", idle in transaction$/)
        assert.lengthOf(others, 1)
        assert.isAtLeast(oldest!.age!, others[0]!.age!)
        yield* first.commit
        yield* second.rollback
        assert.deepStrictEqual(yield* holdbacks, [])
        assert.deepStrictEqual(yield* lab.read, ["late", "early"])
      })
    )
  )
})
