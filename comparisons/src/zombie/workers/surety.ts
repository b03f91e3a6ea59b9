/** A worker that consumes the topic. */
import { Consumer } from "@surety/core"
import { Effect, Layer } from "effect"
import { handle, layerClient, ready } from "../charge.ts"
import { Charges, layerSurety } from "../surety.ts"

const Charging = Consumer.make(Charges, { group: "charging", handler: handle }).pipe(Consumer.orDeadLetter)

const program = Effect.andThen(ready, Consumer.run(Charging))

await Effect.runPromise(program.pipe(Effect.provide(layerSurety.pipe(Layer.provideMerge(layerClient)))))
