/**
 * The suite, over in-memory backends each of which lacks one protection
 * (invariant 24): the scenario named finds the violation named.
 */
import { assert, describe, it } from "@effect/vitest"
import { Transaction } from "@surety/core/Transaction"
import * as TransportTest from "@surety/testing/TransportTest"
import { Effect } from "effect"
import { finds, without } from "./support/without.ts"

const sound = without({})

describe("the suite is sensitive to", () => {
  it.layer(sound.store)("nothing, where nothing is missing", (it) => {
    it.effect("the wrapped backend passes", () =>
      Effect.map(
        TransportTest.violated(sound, "effects and messages of each handler commit once, whatever failed before"),
        (found) => assert.deepStrictEqual(found, new Set())
      )
    )
  })

  finds("a reader that makes records up", [1], "at-least-once: a batch with a record over the limit is refused whole", {
    assignment: ({ claim }) => ({
      claim: (max) =>
        Effect.map(claim(max), (records) => records.flatMap((record) => [record, { ...record, id: `${record.id}'` }]))
    })
  })

  finds(
    "a publish that is refused, and stored",
    [2],
    "at-least-once: a batch with a record over the limit is refused whole",
    {
      transport: ({ publish }) => ({
        publish: (topic, records) => Effect.tapError(publish(topic, records), () => publish(topic, records.slice(0, 1)))
      })
    }
  )

  finds(
    "messages that leave a transaction before its commit",
    [2],
    "at-least-once: reads records whose transactions commit in another order than they began",
    {
      transport: ({ publish }) => ({
        // On a fiber of its own, which is in no transaction.
        publish: (topic, records) => Effect.promise(() => Effect.runPromise(publish(topic, records)))
      })
    }
  )

  finds(
    "an at-most-once consumer whose progress is not stored first",
    [3],
    "a handler that was interrupted by a crash does not start again",
    { assignment: () => ({ settle: () => Effect.void }) }
  )

  finds(
    "messages that are settled when they are claimed",
    [4],
    "at-least-once: what a crashed node was handling is handled by another",
    {
      assignment: ({ claim, settle }) => ({
        claim: (max) => Effect.tap(claim(max), (records) => settle(records.at(-1)!.offset))
      })
    }
  )

  finds("an inbox that admits everything", [5], "an id that is published again has no second effect", {
    inbox: () => ({ admit: (_, entries) => Effect.succeed(entries.map(() => true)) })
  })

  finds(
    "an inbox whose rows are not locked until the commit",
    [5, 6],
    "a copy that arrives while the first is handled waits for it, and the first commits",
    { inbox: () => ({ admit: (_, entries) => Effect.succeed(entries.map(() => true)) }) }
  )

  finds(
    "effects that are kept when their handler fails",
    [5],
    "exactly-once: a failed attempt is repeated by the schedule, and counted",
    {
      inbox: ({ store, transaction }) => ({
        transaction: (holder, body) =>
          transaction(holder, Effect.provideService(body, Transaction, { store, afterCommit: (effect) => effect }))
      })
    }
  )

  finds(
    "an outbox that drops what it is given",
    [7],
    "effects and messages of each handler commit once, whatever failed before",
    { outbox: () => ({ write: () => Effect.void }) }
  )

  finds(
    "a reader that skips records",
    [4, 9],
    "at-least-once: every group handles every message, from whichever node it comes",
    {
      assignment: ({ claim }, { group }) => ({
        claim: (max) =>
          Effect.map(claim(max), (records) =>
            group === "a" ? records.filter(({ offset }, index) => index === 0 || offset % 3 !== 0) : records
          )
      })
    }
  )

  finds(
    "epochs that are not checked",
    [5, 10],
    "exactly-once: a handler whose connections were frozen while another took over settles nothing",
    {
      assignment: ({ fence, settle }) => ({
        settle: (offset) => Effect.catch(settle(offset), () => Effect.void),
        fence: Effect.catch(fence, () => Effect.void)
      }),
      // A transaction that the takeover does not abort, with rows that are not locked.
      inbox: ({ store }) => {
        const settled = new Set<string>()
        return {
          transaction: (_, body) =>
            Effect.suspend(() => {
              const changes: Array<Effect.Effect<void>> = []
              const transaction = {
                store,
                afterCommit: (effect: Effect.Effect<void>) => Effect.sync(() => void changes.push(effect))
              }
              return Effect.tap(Effect.provideService(body, Transaction, transaction), () => Effect.all(changes))
            }),
          admit: (_, entries) =>
            Effect.succeed(entries.map(({ id }) => !settled.has(id) && settled.add(id) !== undefined))
        }
      }
    }
  )

  finds(
    "a reader that changes the order",
    [11],
    "at-least-once: keeps the order of each key while keys run concurrently",
    { assignment: ({ claim }) => ({ claim: (max) => Effect.map(claim(max), (records) => records.toReversed()) }) }
  )

  finds(
    "a publish that changes the order",
    [11],
    "exactly-once: keeps the order of each key while keys run concurrently",
    { transport: ({ publish }) => ({ publish: (topic, records) => publish(topic, records.toReversed()) }) }
  )

  finds(
    "attempts that are not counted when they are claimed",
    [13],
    "at-least-once: what a crashed node was handling is handled by another",
    { assignment: () => ({ count: () => Effect.void, suspectUntil: 0 }) }
  )

  finds(
    "shutdowns that count as attempts",
    [13],
    "at-least-once: a handler that a shutdown interrupts has not made an attempt",
    {
      assignment: ({ count }) => {
        const most = new Map<number, number>()
        return {
          count: (offset, attempts) => {
            const claims = Math.max(attempts.claims, most.get(offset) ?? 0)
            most.set(offset, claims)
            return count(offset, { ...attempts, claims })
          }
        }
      }
    }
  )

  finds(
    "dead letters that are not stored",
    [4],
    "at-least-once: what outlives its retries is dead-lettered whole, and blocks nothing",
    { assignment: () => ({ deadLetter: () => Effect.void }) }
  )

  finds("headers that get lost", [18], "at-most-once: keeps ids, keys, headers and values of any text", {
    assignment: ({ claim }) => ({
      claim: (max) => Effect.map(claim(max), (records) => records.map((record) => ({ ...record, headers: {} })))
    })
  })
})
