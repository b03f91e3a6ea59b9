/** A worker process: consumes once it is told to, and reports what it handles until its parent is gone. */

import { NodeRuntime } from "@effect/platform-node"
import * as PgClient from "@effect/sql-pg/PgClient"
import { Consumer } from "@surety/core"
import { SuretyPg } from "@surety/pg"
import { Config, Effect, Layer, Schedule } from "effect"
import { applyEach, topicOf } from "../systems/surety.ts"

export type Report =
  | "ready"
  | {
      /** All messages that it has handled. */
      readonly handled: number
      /** The partitions of those since the last report. */
      readonly partitions: ReadonlyArray<number>
      /** The partitions that it has now. */
      readonly serving: ReadonlyArray<number>
    }

const tell = (report: Report) => Effect.sync(() => void process.send!(report))

const program = Effect.gen(function* () {
  const client = yield* PgClient.PgClient
  const topic = topicOf(yield* Config.String("BENCH_TOPIC"), "exactly-once")
  const started = Effect.callback<void>((resume) => void process.once("message", () => resume(Effect.void)))
  yield* tell("ready")
  yield* started
  let handled = 0
  const partitions = new Set<number>()
  const watch = {
    begins: () => {},
    handled: (_: unknown, partition?: number) => {
      handled++
      if (partition !== undefined) partitions.add(partition)
    }
  }
  const running = yield* Consumer.start(applyEach(client, topic, watch))
  yield* Effect.gen(function* () {
    const { partitions: serving } = yield* running.status
    yield* tell({ handled, partitions: [...partitions], serving })
    partitions.clear()
  }).pipe(Effect.repeat(Schedule.spaced("20 millis")))
})

const live = Layer.unwrap(
  Effect.gen(function* () {
    const url = yield* Config.Redacted("DATABASE_URL")
    const lease = yield* Config.Int("BENCH_LEASE")
    return SuretyPg.layerWith({ lease }).pipe(Layer.provideMerge(PgClient.layer({ url })))
  })
)

process.once("disconnect", () => process.exit())
program.pipe(Effect.scoped, Effect.provide(live), NodeRuntime.runMain)
