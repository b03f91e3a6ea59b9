/**
 * The suite, over in-memory backends each of which lacks one protection
 * (invariant 24): those of how messages end, of who leaves, and of what is held.
 */
import { describe } from "@effect/vitest"
import type * as Transport from "@surety/core/Transport"
import { Effect, Scope, Stream } from "effect"
import { finds } from "./support/without.ts"

/** On a fiber of its own, which is in no transaction. */
const outside = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A> => Effect.promise(() => Effect.runPromise(effect))

const redriven = (guarantee: string) =>
  `${guarantee}: a redriven message goes to the group that failed, whole, and to no other`

describe("the suite is sensitive to", () => {
  finds(
    "messages that are settled when they are claimed",
    [4],
    "exactly-once: what a crashed node was handling is handled by another",
    {
      assignment: ({ claim, settle }) => ({
        claim: (max) => Effect.tap(claim(max), (records) => settle(records.at(-1)!.offset))
      })
    }
  )

  finds("keys that share no lane", [11], "at-least-once: keeps the order of each key while keys run concurrently", {
    assignment: ({ claim }) => ({
      claim: (max) => Effect.map(claim(max), (records) => records.map((record) => ({ ...record, key: undefined })))
    })
  })

  finds(
    "parking that does not block its key",
    [11],
    "at-least-once: a retry that is due late survives its process, and nothing else is repeated",
    {
      assignment: ({ redelivery }) => ({
        redelivery: {
          ...redelivery!,
          park: (records) => redelivery!.park(records.map((record) => ({ ...record, key: undefined })))
        }
      })
    }
  )

  finds(
    "an outbox that sends before the commit",
    [2, 8],
    "exactly-once: a unit that is taken over in its middle publishes nothing",
    {
      outbox: () => ({
        write: (records) =>
          Effect.forEach(records, ({ record, topic, transport }) => outside(transport.publish(topic, [record])), {
            discard: true
          })
      })
    }
  )

  finds(
    "an outbox that drops what it is given",
    [8],
    "exactly-once: units that fail, crash and repeat publish what they commit, once",
    {
      outbox: () => ({ write: () => Effect.void })
    }
  )

  finds(
    "an outbox that sends twice",
    [8],
    "exactly-once: units that fail, crash and repeat publish what they commit, once",
    {
      outbox: ({ write }) => ({ write: (records) => Effect.andThen(write(records), write(records)) })
    }
  )

  finds("an inbox that admits everything", [5, 15], "an id that is published again has no second effect", {
    inbox: () => ({ admit: (_, entries) => Effect.succeed(entries.map(() => true)) })
  })

  finds("a redrive that forgets the inbox", [4], redriven("exactly-once"), {
    deadLetters: ({ redrive }, { groups }) => ({
      redrive: (filter) =>
        Effect.suspend(() => {
          // Settled for good, where the redrive would open it again.
          for (const { inbox } of groups.values()) {
            for (const [id, entry] of inbox) if (entry === "dead") inbox.set(id, "discarded")
          }
          return redrive(filter)
        })
    })
  })

  finds("a redrive that publishes again", [14], redriven("at-least-once"), {
    deadLetters: ({ list, purge }, { logs }, { publish }) => ({
      redrive: (filter) =>
        Effect.gen(function* () {
          const letters = yield* Stream.runCollect(list(filter))
          for (const { record, topic } of letters) {
            yield* publish({ name: topic, partitions: logs.get(topic)!.partitions.length }, [record])
          }
          return yield* purge(filter)
        })
    })
  })

  finds(
    "a redrive that goes on counting",
    [13],
    "at-least-once: what fails again after its redrive is dead again, with attempts from zero",
    {
      assignment: ({ redelivery }) => ({
        redelivery: {
          ...redelivery!,
          read: (offsets) =>
            Effect.map(redelivery!.read(offsets), (records) =>
              records.map((record) => ({ ...record, attempts: { claims: 2, failures: 2 } }))
            )
        }
      })
    }
  )

  finds(
    "dead letters without their cause",
    [14],
    "at-least-once: what outlives its retries is dead-lettered whole, and blocks nothing",
    {
      assignment: ({ deadLetter }) => ({
        deadLetter: (letters) =>
          deadLetter(letters.map((letter) => ({ ...letter, failure: { ...letter.failure, cause: "" } })))
      })
    }
  )

  finds(
    "dead letters with other bytes",
    [18],
    "at-least-once: what outlives its retries is dead-lettered whole, and blocks nothing",
    {
      assignment: ({ deadLetter }) => ({
        deadLetter: (letters) =>
          deadLetter(letters.map((letter) => ({ ...letter, record: { ...letter.record, headers: {} } })))
      })
    }
  )

  finds(
    "acknowledgements of what is not stored",
    [4, 16],
    "at-least-once: what was acknowledged survives the end of its publisher at that moment",
    {
      transport: ({ publish }) => ({
        publish: (topic, records) =>
          records.some(({ id }) => id.endsWith("-2")) ? Effect.void : publish(topic, records)
      })
    }
  )

  finds(
    "work that is not taken up again soon",
    [19],
    "at-least-once: after faults have stopped everything is settled within a bound",
    {
      assignment: ({ claim }) => ({ claim: (max) => Effect.delay(claim(max), "1 minute") })
    }
  )

  finds(
    "a key that has to wait for all others",
    [20],
    "at-least-once: a hot key, a failing key and a parked key starve no other",
    {
      assignment: ({ claim }) => {
        const waiting: Array<Transport.ClaimedRecord> = []
        return {
          claim: (max) =>
            Effect.map(claim(max), (records) => {
              const others = records.filter(({ key }) => key !== "key-3")
              if (others.length === 0) return records
              waiting.push(...records.filter(({ key }) => key === "key-3"))
              return others.some(({ id }) => id === "hot-60") ? [...others, ...waiting] : others
            })
        }
      }
    }
  )

  finds(
    "a drain that keeps its leases",
    [21],
    "at-least-once: what a consumer that stops had claimed, kept aside and begun is its successor's at once",
    {
      assignment: () => ({ release: Effect.void }),
      subscribe: (subscribe) => Scope.provide(subscribe, Scope.makeUnsafe())
    }
  )

  finds("claims without a bound", [22], "at-least-once: while handlers are busy no more is claimed than may be held", {
    assignment: ({ claim }) => ({ claim: () => claim(1_000) })
  })

  finds(
    "attempts that are never forgotten",
    [22],
    "at-least-once: when everything is settled and everybody has left, nothing is kept",
    {
      // A count of what is settled is refused: this one is of a record that never comes.
      assignment: ({ count, settle }) => ({
        settle: (offset) => Effect.andThen(settle(offset), count(offset + 1_000_000, { claims: 1, failures: 1 }))
      })
    }
  )
})
