/**
 * Many publishers at once, drawn from a seed: transactions of every isolation
 * level that publish again and again, are slow, roll back, or roll back to
 * savepoints, beside a reader whose cursor moves on all the while.
 */

import { assert, describe, it } from "@effect/vitest"
import { Producer } from "@surety/core"
import { Effect, Exit, Fiber, Random } from "effect"
import * as SqlClient from "effect/sql/SqlClient"
import { inLab, type Lab, Log } from "./support/lab.ts"

const begins = [
  "BEGIN ISOLATION LEVEL READ COMMITTED",
  "BEGIN ISOLATION LEVEL REPEATABLE READ",
  "BEGIN ISOLATION LEVEL SERIALIZABLE"
]
const publishers = 12
const transactions = 15

const run = (lab: Lab["Service"], seed: string) =>
  Effect.gen(function* () {
    const { sql } = lab
    const committed = new Set<string>()
    const int = (max: number) => Random.nextIntBetween(0, max)
    const slow = Effect.flatMap(int(4), (times) => Effect.repeat(sql`SELECT 1`, { times }))

    const transaction = Effect.fnUntraced(function* (name: string) {
      const sent: Array<string> = []
      const publish = Effect.fnUntraced(function* (id: string) {
        yield* Producer.publish(Log, id)
        yield* slow
        return id
      })
      const body = Effect.gen(function* () {
        const steps = 1 + (yield* int(4))
        for (let step = 0; step < steps; step++) {
          const id = `${name}.${step}`
          if ((yield* int(3)) > 0) {
            sent.push(yield* publish(id))
          } else {
            const keep = (yield* int(2)) === 0
            const nested = yield* Effect.exit(
              sql.withTransaction(Effect.andThen(publish(id), keep ? Effect.void : Effect.fail("rolled back")))
            )
            if (Exit.isSuccess(nested)) sent.push(id)
          }
        }
        if ((yield* int(4)) === 0) return yield* Effect.fail("rolled back")
      })
      const exit = yield* body.pipe(
        sql.withTransaction,
        Effect.provideService(SqlClient.BeginTransaction, begins[yield* int(3)]),
        Effect.exit
      )
      if (Exit.isSuccess(exit)) for (const id of sent) committed.add(id)
    })

    const publishing = yield* Effect.forkChild(
      Effect.forEach(
        Array.from({ length: publishers }, (_, index) => index),
        (publisher) =>
          Effect.forEach(
            Array.from({ length: transactions }, (_, index) => index),
            (number) => transaction(`${publisher}.${number}`),
            { discard: true }
          ),
        { concurrency: "unbounded", discard: true }
      )
    )
    const read: Array<{ readonly id: string; readonly offset: number }> = []
    const readOn = Effect.gen(function* () {
      const found = yield* lab.readAfter(read.at(-1)?.offset ?? 0)
      read.push(...found)
      return found.length
    })
    while (publishing.pollUnsafe() === undefined) yield* readOn
    yield* Fiber.join(publishing)
    while ((yield* readOn) > 0);
    return { committed, read }
  }).pipe(Random.withSeed(seed))

const drawOrder = (lab: Lab["Service"]) =>
  Effect.map(lab.sql<{ id: string }>`SELECT id FROM surety.log ORDER BY log_offset`, (found) =>
    found.map(({ id }) => id)
  )

describe("publishers at random", () => {
  for (const seed of ["one", "two", "three"]) {
    it.effect(`seed "${seed}": every committed message is read once, in draw order`, () =>
      inLab((lab) =>
        Effect.gen(function* () {
          const { committed, read } = yield* run(lab, seed)
          const ids = read.map(({ id }) => id)
          assert.isAbove(committed.size, 100)
          assert.deepStrictEqual(new Set(ids), committed)
          assert.deepStrictEqual(ids, yield* drawOrder(lab))
        })
      )
    )
  }

  it.effect("without the lock some are skipped: the test can fail", () =>
    inLab((lab) =>
      Effect.gen(function* () {
        yield* lab.switchOff("hold_horizon", "pg_advisory_xact_lock_shared(", "concat(")
        const { committed, read } = yield* run(lab, "one")
        assert.isBelow(read.length, committed.size)
      })
    )
  )
})
