/** Publishes that are under way while their layer is closed. */
import { assert, describe, it } from "@effect/vitest"
import { Producer } from "@surety/core"
import { Effect, Exit, Fiber, Scope } from "effect"
import { holding, inDatabase, note, notes, start, until, values, waiting } from "./support/nodes.ts"

const Once = notes({ name: "once", guarantee: "at-most-once" })

describe("a layer that is closed", { concurrent: true }, () => {
  it.live(
    "leaves no publish without an answer: the one in its statement, the one that waits, and the one that comes later",
    () =>
      inDatabase(
        Effect.gen(function* () {
          const scope = yield* Scope.make()
          const node = yield* Scope.provide(start(), scope)
          const publish = (id: string) => node.run(Producer.publish(Once, note(id)))
          yield* publish("before")
          const release = yield* holding(values("LOCK TABLE surety.log IN ACCESS EXCLUSIVE MODE"))
          const first = yield* Effect.forkScoped(Effect.exit(publish("first")))
          yield* until(
            "the first waits for the lock",
            Effect.map(waiting("app:control"), (count) => count === 1)
          )
          const second = yield* Effect.forkScoped(Effect.exit(publish("second")))
          yield* until(
            "the second waits for the lock",
            Effect.map(waiting("app:control"), (count) => count === 2)
          )
          const third = yield* Effect.forkScoped(Effect.exit(publish("third")))
          yield* Scope.close(scope, Exit.void)
          yield* release
          const late = yield* Effect.forkScoped(Effect.exit(publish("late")))
          for (const [name, fiber] of Object.entries({ first, second, third, late })) {
            yield* until(
              `${name} is answered`,
              Effect.sync(() => fiber.pollUnsafe() !== undefined)
            )
            const answer = yield* Effect.flip(yield* Fiber.join(fiber))
            assert.strictEqual(
              answer.reason._tag,
              name === "first" || name === "second" ? "MaybeSent" : "NotSent",
              name
            )
          }
        })
      )
  )
})
