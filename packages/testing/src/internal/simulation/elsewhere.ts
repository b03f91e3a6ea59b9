/** A second system: a store of its own, which all processes of a run share as they share the first. */
import * as Surety from "@surety/core/Surety"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

/** The layers of the second system, with its store built. */
export const Elsewhere = Context.Reference<Layer.MemoMap>("@surety/testing/internal/Elsewhere", {
  defaultValue: Layer.makeMemoMapUnsafe
})

/** The services of `Surety.layerMemory` over the second store, for a channel of their own. */
export const layerElsewhere = Layer.effectContext(
  Effect.gen(function* () {
    const memoMap = Layer.forkMemoMapUnsafe(yield* Elsewhere)
    return yield* Layer.buildWithMemoMap(Surety.layerMemory, memoMap, yield* Effect.scope)
  })
)
