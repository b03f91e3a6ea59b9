import { PgClient } from "@effect/sql-pg"
import { assert, it } from "@effect/vitest"
import * as TestPostgres from "@surety/testing/TestPostgres"
import * as WireFaults from "@surety/testing/WireFaults"
import { Effect } from "effect"
import { Reactivity } from "effect/reactivity"

it.layer(TestPostgres.layer, { excludeTestServices: true })("a transfer", (it) => {
  it.effect("is there as a whole, or not at all, wherever its connection is cut", () =>
    Effect.gen(function* () {
      const { url } = yield* TestPostgres.TestPostgres
      const wire = WireFaults.make(url)
      const app = yield* PgClient.make({ url, maxConnections: 1, stream: wire.stream })
      const sql = yield* PgClient.make({ url })
      yield* sql`CREATE TABLE entry (transfer text, amount integer)`

      const report = yield* WireFaults.enumerate(wire, {
        flow: ({ name }) =>
          Effect.gen(function* () {
            yield* app`INSERT INTO entry VALUES (${name}, -5)`.pipe(
              Effect.andThen(app`INSERT INTO entry VALUES (${name}, 5)`),
              app.withTransaction,
              Effect.exit
            )
            const entries = yield* sql`SELECT amount FROM entry WHERE transfer = ${name}`
            assert.include([0, 2], entries.length)
          })
      })
      assert.strictEqual(report.points, 2 * report.messages)
    }).pipe(Effect.provide(Reactivity.layer))
  )
})
