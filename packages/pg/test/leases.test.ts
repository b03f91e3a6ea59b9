/** Leases: for how long they are stored, and who leaves while it is taking one. */
import { assert, describe, it } from "@effect/vitest"
import { Topic, Transport } from "@surety/core"
import { Effect, Fiber } from "effect"
import { holding, inDatabase, lease, notes, start, until, value, values, waiting } from "./support/nodes.ts"

const Pair = notes({ name: "pair", partitions: 2 })

const held = value<number>("SELECT count(*)::integer AS value FROM surety.lease WHERE holder IS NOT NULL")

describe("leases", { concurrent: true }, () => {
  it.live("are stored for three quarters of what is declared, so that another one has its time to take over", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start({ lease: "40 seconds" })
        yield* lease(node, Pair)
        const left = yield* value<number>(
          "SELECT extract(epoch FROM max(expires_at) - clock_timestamp())::float8 AS value FROM surety.lease"
        )
        assert.isAtMost(left, 30)
        assert.isAtLeast(left, 1)
      })
    )
  )

  it.live("that are being taken by a member as it leaves are not kept from the others while it drains", () =>
    inDatabase(
      Effect.gen(function* () {
        const node = yield* start({ lease: "10 minutes" })
        const { subscribe } = yield* node.run(Transport.Transport)
        const subscribed = subscribe({ topic: Topic.declaration(Pair), group: "workers", startFrom: "earliest" })
        yield* Effect.scoped(subscribed)
        const release = yield* holding(values("SELECT FROM surety.cursor FOR UPDATE"))
        // Returns once it was refused the first time.
        const { leave } = yield* subscribed
        yield* until(
          "it waits to take the partitions",
          Effect.map(waiting("app:leases"), (count) => count === 1)
        )
        const leaving = yield* Effect.forkScoped(leave)
        yield* Effect.yieldNow
        yield* release
        yield* Fiber.join(leaving)
        yield* until(
          "nothing is under way",
          value<boolean>(
            "SELECT count(*) = 0 AS value FROM pg_stat_activity WHERE application_name = 'app:leases' AND state <> 'idle'"
          )
        )
        assert.strictEqual(yield* held, 0)
        assert.strictEqual(yield* value("SELECT count(*)::integer AS value FROM surety.member"), 0)
      })
    )
  )
})
