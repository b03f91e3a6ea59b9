import * as Context from "effect/Context"
import type { Tx } from "./store.ts"

/** The in-memory transaction that the calling fiber is in. */
export const CurrentTx = Context.Reference<Tx | undefined>("@surety/core/internal/memory/CurrentTx", {
  defaultValue: () => undefined
})

/** The savepoint of that transaction that the calling fiber is in, the innermost one. */
export const CurrentSavepoint = Context.Reference<number | undefined>("@surety/core/internal/memory/CurrentSavepoint", {
  defaultValue: () => undefined
})
