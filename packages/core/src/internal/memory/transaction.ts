import * as Context from "effect/Context"
import type { Tx } from "./store.ts"

/** The in-memory transaction that the calling fiber is in. */
export const CurrentTx = Context.Reference<Tx | undefined>("@surety/core/internal/memory/CurrentTx", {
  defaultValue: () => undefined
})
