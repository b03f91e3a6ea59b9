/** Protections that can be switched off, so that it can be seen that a simulation notices (invariant 24). */
import type * as MemoryStore from "@surety/core/MemoryStore"
import * as Effect from "effect/Effect"
import type { Without } from "../without.ts"

export interface Mutation {
  /** Of the store itself. */
  readonly unprotected?: ReadonlyArray<MemoryStore.Protection>
  /** Of the services over it. */
  readonly without?: Without
}

/** By the names that invariant 24 has for them. */
export const mutations = {
  "inbox check": { without: { inbox: () => ({ admit: (_, entries) => Effect.succeed(entries.map(() => true)) }) } },
  "epoch check": { unprotected: ["epoch"] },
  "snapshot bound": { unprotected: ["horizon"] },
  savepoint: { unprotected: ["savepoint"] },
  "settle after commit": {
    without: {
      assignment: ({ claim, settle }) => ({
        claim: (max) => Effect.tap(claim(max), (records) => settle(records.at(-1)!.offset))
      })
    }
  },
  "key order": {
    without: {
      assignment: ({ claim }) => ({ claim: (max) => Effect.map(claim(max), (records) => records.toReversed()) })
    }
  },
  "claim-time attempt": {
    without: { assignment: () => ({ count: () => Effect.void }) }
  }
} satisfies Record<string, Mutation>
