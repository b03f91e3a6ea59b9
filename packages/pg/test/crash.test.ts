/** POSTGRES.md, rule 16: attempts survive the process that makes them (invariant 13). */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { deadLetters, effects, inbox, inDatabase, note, settled, start, until, value } from "./support/nodes.ts"
import { startWorker } from "./support/workers.ts"

describe("a message that kills its process", () => {
  it.live("reaches the dead letters within maxCrashes, and takes none of its batch with it", () =>
    inDatabase(
      Effect.gen(function* () {
        const maxCrashes = 1
        const node = yield* start()
        yield* node.publish(note("a"), note("b"), note("killer", { body: "die" }), note("c"), note("d"))
        let killed = 0
        while (true) {
          const worker = yield* startWorker({ name: `worker ${killed + 1}`, leaseMillis: 800, maxCrashes })
          const done = value<boolean>("SELECT count(*) = 5 AS value FROM surety.inbox")
          yield* until(
            "it is killed, or is done",
            Effect.flatMap(worker.ended, (ended) => (ended ? Effect.succeed(true) : done))
          )
          if (!(yield* worker.ended)) break
          killed++
          assert.isAtMost(killed, maxCrashes + 1)
        }
        yield* settled(5)
        assert.strictEqual(killed, maxCrashes + 1)
        assert.deepStrictEqual(yield* effects, ["a", "b", "c", "d"])
        assert.deepStrictEqual(yield* inbox, ["a handled", "b handled", "c handled", "d handled", "killer dead"])
        assert.deepStrictEqual(yield* deadLetters, [`killer Crashed ${maxCrashes + 1}`])
      })
    )
  )
})
