/** What crash points, cut wires and processes ask for, and what they give back. */
import type { Duplex } from "node:stream"
import { PgClient } from "@effect/sql-pg"
import { Consumer, DeadLetters, MemoryStore, Producer, Surety, Topic, Transport } from "@surety/core"
import * as CrashPoints from "@surety/testing/CrashPoints"
import * as TestProcess from "@surety/testing/TestProcess"
import * as WireFaults from "@surety/testing/WireFaults"
import { Context, Effect, Layer, type Redacted, Schema, type Scope } from "effect"
import { describe, expect, it } from "tstyche"

const Orders = Topic.make("orders", { schema: Schema.String, guarantee: "exactly-once", id: (order) => order })
const Worker = Consumer.layer(Consumer.make(Orders, { group: "worker", handler: () => Effect.void }))

class Files extends Context.Service<Files, { readonly names: ReadonlyArray<string> }>()("Files") {}
declare const url: Redacted.Redacted

describe("crash points", () => {
  it("provide a flow with its process, its store and its scope", () => {
    const done = CrashPoints.enumerate({
      process: Surety.layerMemory,
      flow: ({ id }) => Effect.andThen(Producer.publish(Orders, id), Layer.build(Worker)),
      settled: () => Effect.flatMap(Transport.Transport, ({ progress }) => progress("orders", "worker")),
      check: () => Effect.all([DeadLetters.DeadLetters, MemoryStore.MemoryStore])
    })
    expect(done).type.toBe<Effect.Effect<CrashPoints.Report, CrashPoints.PointFailed>>()
  })

  it("ask for what is neither", () => {
    const done = CrashPoints.enumerate({
      process: Surety.layerMemory,
      flow: () => Files,
      down: Effect.asVoid(Files),
      check: () => Effect.void
    })
    expect(done).type.toBe<Effect.Effect<CrashPoints.Report, CrashPoints.PointFailed, Files>>()
  })

  it("know a world of your own, which outlives the processes", () => {
    const done = CrashPoints.enumerate({
      world: Layer.succeed(Files, { names: [] }),
      process: Layer.empty,
      flow: () => CrashPoints.step("upload")(Files),
      check: () => Files
    })
    expect(done).type.toBe<Effect.Effect<CrashPoints.Report, CrashPoints.PointFailed>>()
  })

  it("belong to a process: a step, or a connection, outside of one does not run", () => {
    expect(CrashPoints.stream(url)).type.toBe<Effect.Effect<() => Duplex, never, CrashPoints.Process>>()
    const step = CrashPoints.step("upload")(Effect.succeed(1))
    expect(step).type.toBe<Effect.Effect<number, never, CrashPoints.Process>>()
    // @ts-expect-error Type 'Process' is not assignable to type 'never'.
    Effect.runFork(step)
  })

  it("are looked at by another process: a check has no scope of the flow's", () => {
    const done = CrashPoints.enumerate({
      process: Surety.layerMemory,
      flow: () => Effect.void,
      check: () => Layer.build(Worker)
    })
    expect(done).type.toBe<Effect.Effect<CrashPoints.Report, CrashPoints.PointFailed, Scope.Scope>>()
  })

  it("need a process, a flow and a check", () => {
    // @ts-expect-error Property 'check' is missing
    CrashPoints.enumerate({ process: Surety.layerMemory, flow: () => Effect.void })
  })
})

describe("wire faults", () => {
  const wire = WireFaults.make(url)

  it("are given to a client as its stream", () => {
    PgClient.layer({ url, applicationName: "shop", maxConnections: 1, stream: wire.stream })
  })

  it("run a flow that needs what it needs, and fail at a point", () => {
    const done = WireFaults.enumerate(wire, { flow: ({ at, name }) => Effect.as(Files, `${name} ${at}`) })
    expect(done).type.toBe<Effect.Effect<WireFaults.Report, WireFaults.PointFailed, Files>>()
  })

  it("are values", () => {
    WireFaults.enumerate(wire, {
      application: "shop",
      faults: [
        WireFaults.cutBefore,
        WireFaults.cutAfter,
        WireFaults.withhold("1 second"),
        WireFaults.delay(20),
        WireFaults.split(1, 3)
      ],
      count: (messages) => messages.findLastIndex(({ statement }) => statement === "COMMIT"),
      flow: () => Effect.void
    })
    // @ts-expect-error Expected at least 1 argument
    WireFaults.split()
  })
})

describe("a process", () => {
  it("ends with the scope", () => {
    const spawned = TestProcess.spawn(new URL("./worker.ts", import.meta.url), { args: ["--fast"], env: { A: "1" } })
    expect(spawned).type.toBe<Effect.Effect<TestProcess.TestProcess, never, Scope.Scope>>()
    Effect.flatMap(spawned, ({ ended, signal }) => {
      expect(ended).type.toBe<Effect.Effect<number | NodeJS.Signals>>()
      // @ts-expect-error Argument of type '"SIGNAL"' is not assignable to parameter of type 'Signals'.
      signal("SIGNAL")
      return signal("SIGSTOP")
    })
    // @ts-expect-error Argument of type 'string' is not assignable to parameter of type 'URL'.
    TestProcess.spawn("./worker.ts")
  })
})
