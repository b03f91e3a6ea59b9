import { assert, it } from "@effect/vitest"
import { Consumer, Producer, Surety, Topic, Transaction } from "@surety/core"
import * as CrashPoints from "@surety/testing/CrashPoints"
import { Effect, Layer, Schema } from "effect"
import { untilSettled } from "../support/untilSettled.ts"

const Orders = Topic.make("orders", { schema: Schema.String, guarantee: "exactly-once", id: (order) => order })

it.effect("an order is confirmed at most once, wherever its worker crashes", () =>
  Effect.gen(function* () {
    const confirmed: Array<string> = []
    const Worker = Consumer.make(Orders, {
      group: "worker",
      handler: (order) =>
        Effect.flatMap(Transaction, ({ afterCommit }) => afterCommit(Effect.sync(() => confirmed.push(order))))
    }).pipe(Consumer.layer)

    const report = yield* CrashPoints.enumerate({
      process: Surety.layerMemory,
      flow: ({ id }) => Effect.andThen(Producer.publish(Orders, id), Layer.build(Worker)),
      settled: () => untilSettled(Orders, "worker"),
      check: ({ id }) => Effect.sync(() => assert.isAtMost(confirmed.filter((order) => order === id).length, 1))
    })
    assert.isAbove(report.points, 20)
  })
)
