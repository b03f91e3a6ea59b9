/** The in-memory backend of the suite: several nodes over one `MemoryStore`. */
import type * as Acks from "@surety/core/Acks"
import * as DeadLetters from "@surety/core/DeadLetters"
import * as Inbox from "@surety/core/Inbox"
import * as MemoryStore from "@surety/core/MemoryStore"
import * as Outbox from "@surety/core/Outbox"
import * as Surety from "@surety/core/Surety"
import { Transaction } from "@surety/core/Transaction"
import * as Transport from "@surety/core/Transport"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as TransportTest from "../../TransportTest.ts"

/** One store, shared by all nodes through its memo map, and the rows of their handlers. */
export class MemoryArea extends Context.Service<
  MemoryArea,
  {
    readonly memoMap: Layer.MemoMap
    readonly store: MemoryStore.MemoryStore["Service"]
    readonly rows: Array<TransportTest.Row>
  }
>()("@surety/testing/TransportTest/MemoryArea") {}

const store = Layer.effect(
  MemoryArea,
  Effect.gen(function* () {
    const memoMap = yield* Layer.makeMemoMap
    const built = yield* Layer.buildWithMemoMap(MemoryStore.layer, memoMap, yield* Effect.scope)
    return { memoMap, store: Context.get(built, MemoryStore.MemoryStore), rows: [] }
  })
)

const layerParts: Layer.Layer<Transport.Transport | Acks.Acks | Inbox.Inbox | Outbox.Outbox | DeadLetters.DeadLetters> =
  Layer.mergeAll(Transport.layerMemory, Inbox.layerMemory, Outbox.layerMemory, DeadLetters.layerMemory)

export const memory = (options?: {
  readonly parts?: typeof layerParts | undefined
}): TransportTest.Backend<MemoryArea> => {
  const services = Surety.layer.pipe(Layer.provideMerge(options?.parts ?? layerParts))
  return {
    time: "virtual",
    lease: "15 seconds",
    store,
    node: Effect.fnUntraced(function* () {
      const { memoMap, rows } = yield* MemoryArea
      const node = { alive: true }
      const open = new WeakMap<Transaction["Service"], Array<TransportTest.Row>>()
      const built = yield* Layer.buildWithMemoMap(services, Layer.forkMemoMapUnsafe(memoMap), yield* Effect.scope).pipe(
        Effect.provideService(MemoryStore.Node, node)
      )
      return {
        services: built,
        apply: (row) =>
          Effect.flatMap(Transaction, (transaction) => {
            const written = open.get(transaction)
            if (written !== undefined) return Effect.sync(() => void written.push(row))
            // All rows of a transaction at once: an effect each would let a reader in between.
            const own = [row]
            open.set(transaction, own)
            return transaction.afterCommit(Effect.sync(() => void rows.push(...own)))
          }),
        disconnect: () =>
          Effect.sync(() => {
            node.alive = false
          }),
        reconnect: Effect.sync(() => {
          node.alive = true
        })
      }
    }),
    effects: (topic) => Effect.map(MemoryArea, ({ rows }) => rows.filter((row) => row.topic === topic)),
    kept: (topic, group) =>
      Effect.map(MemoryArea, ({ store }) => {
        const { cursors, inbox, members } = store.groups.get(JSON.stringify([topic, group]))!
        const sum = (of: (cursor: (typeof cursors)[number]) => number) =>
          cursors.reduce((total, cursor) => total + of(cursor), 0)
        return {
          attempts: sum(({ attempts }) => attempts.size),
          redeliveries: sum(({ parked }) => parked.size),
          pending: Array.from(inbox.values()).filter((entry) => entry === "pending").length,
          members: members.size,
          leases: sum(({ holder }) => (holder === undefined ? 0 : 1)),
          claimed: sum(({ claimed, settled }) => Math.max(0, claimed - settled))
        }
      })
  }
}
