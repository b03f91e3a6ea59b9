import { NodeRuntime } from "@effect/platform-node"
import { MemoryStore, Surety } from "@surety/core"
import { Console, type Duration, Effect, Layer } from "effect"

const remembering = (inbox: Duration.Input | "forever") =>
  Layer.build(
    Surety.layerMemory.pipe(
      Layer.provide(MemoryStore.options({ lease: "15 seconds", retention: { log: "7 days", inbox } }))
    )
  ).pipe(
    Effect.scoped,
    Effect.matchEffect({
      onFailure: ({ message }) => Console.log(message),
      onSuccess: () => Console.log(`${inbox}: accepted`)
    })
  )

const program = Effect.forEach(["forever", "8 days", "7 days"] as const, remembering)

NodeRuntime.runMain(program)
