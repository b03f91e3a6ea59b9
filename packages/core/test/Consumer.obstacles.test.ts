/** What holds a key or a partition back is named. */
import { assert, describe, it } from "@effect/vitest"
import { Consumer, Producer, Surety } from "@surety/core"
import { Deferred, Effect } from "effect"
import { TestClock } from "effect/testing"
import { note, notes, quiet } from "./support.ts"

const Notes = notes("at-least-once")

/** The messages that wait, as `id or key state dueAt (how many wait)`, with a star where the partition does. */
const obstacles = (running: Consumer.Running) =>
  Effect.map(running.obstacles, (found) =>
    found.map(
      ({ dueAt, holdsPartition, id, key, state, waiting }) =>
        `${id ?? key} ${state}${dueAt === undefined ? "" : ` ${dueAt}`} (${waiting})${holdsPartition ? " *" : ""}`
    )
  )

describe("what holds back", () => {
  it.effect("a partition and its keys is the message that runs, or waits, in front", () =>
    Effect.gen(function* () {
      const go = yield* Deferred.make<void>()
      const running = yield* Consumer.start(
        Consumer.make(Notes, {
          group: "readers",
          concurrency: 2,
          redeliverAfter: "10 seconds",
          handler: ({ id }, { attempt }) =>
            id === "slow"
              ? Deferred.await(go)
              : attempt === 1 && id !== "next"
                ? Consumer.retryAfter(id === "soon" ? "5 seconds" : "1 hour")
                : Effect.void
        })
      )
      assert.deepStrictEqual(yield* obstacles(running), [])
      yield* Producer.publishAll(Notes, [
        note("slow", "a"),
        note("next", "a"),
        note("soon", "b"),
        note("next", "b"),
        note("late", "c"),
        note("next", "c"),
        note("next", "c"),
        note("next", "d")
      ])
      yield* quiet
      assert.deepStrictEqual(yield* obstacles(running), [
        "slow running (1) *",
        "soon retrying 5000 (1)",
        "c parked 3600000 (2)"
      ])
      yield* TestClock.adjust("5 seconds")
      yield* quiet
      assert.deepStrictEqual(yield* obstacles(running), ["slow running (1) *", "c parked 3600000 (2)"])
      yield* running.pause
      yield* Deferred.succeed(go, undefined)
      yield* quiet
      assert.deepStrictEqual(yield* obstacles(running), ["next queued (0) *", "c parked 3600000 (2)"])
      yield* running.resume
      yield* TestClock.adjust("1 hour")
      yield* quiet
      assert.deepStrictEqual(yield* obstacles(running), [])
    }).pipe(Effect.scoped, Effect.provide(Surety.layerMemory))
  )
})
