import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Holder, Inbox } from "../../Inbox.ts"
import { ConnectionLost, type MemoryStore } from "../../MemoryStore.ts"
import { Transaction } from "../../Transaction.ts"
import { Fenced, TransportError, Unavailable } from "../../TransportError.ts"
import { type Site, site } from "./log.ts"
import { trimInbox } from "./retention.ts"
import { abort, commit, groupKey, makeTx, type Tx } from "./store.ts"
import { CurrentTx } from "./transaction.ts"
import { storeDeadLetters } from "./transport.ts"

/** Nothing of the message's doing: it is handled again (rule 16). */
const lost = () => new Unavailable({ detail: "the connection to the store was lost, and the transaction with it" })

export const at = ({ access, store }: Site): Inbox["Service"] => {
  const { inbox: retention } = store.settings.retention

  const groupOf = (topic: string, group: string) => store.groups.get(groupKey(topic, group))!

  const transaction = <A, E, R>(holder: Holder, body: Effect.Effect<A, E, R>) =>
    Effect.suspend(() => {
      const { epoch, group, partition, topic } = holder
      const cursor = groupOf(topic, group).cursors[partition]!
      const fencing = !store.unprotected.has("epoch")
      const stale = () => fencing && cursor.epoch !== epoch
      const transaction = makeTx()
      const begin = access(
        "begin",
        topic,
        () => {
          if (stale()) return new Fenced({ group, partition, epoch })
          if (fencing) cursor.transactions.add(transaction)
          return undefined
        },
        { holder, transaction }
      )
      // Invariant 10: what a successor has ended does not commit.
      const end = access(
        "commit",
        topic,
        () => {
          if (commit(transaction)) return undefined
          return stale() ? new Fenced({ group, partition, epoch }) : lost()
        },
        { holder, transaction }
      )
      const inside = Context.make(Transaction, {
        store,
        afterCommit: (effect) => Effect.sync(() => void transaction.afterCommit.push(effect))
      }).pipe(Context.add(CurrentTx, transaction))
      const after = Effect.suspend(() =>
        transaction.afterCommit.length === 0
          ? Effect.void
          : Effect.forEach(transaction.afterCommit, (effect) => Effect.ignoreCause(effect), { discard: true })
      )
      const work = body.pipe(
        Effect.provideContext(inside),
        Effect.onExit((exit) => (Exit.isFailure(exit) ? Effect.void : Effect.andThen(end, after)))
      )
      return Effect.ensuring(
        Effect.andThen(begin, work),
        Effect.sync(() => {
          cursor.transactions.delete(transaction)
          abort(transaction)
        })
      )
    })

  return {
    store,
    description: {
      layer: "Inbox.layerMemory",
      promise: "settled ids, handlers' publishes and progress change together, in this process's memory",
      gaps: [],
      assumptions: [],
      possible: [
        "settled ids are forgotten with the process",
        "what a handler changes in its own variables is not rolled back"
      ]
    },
    retention: retention === "forever" ? "forever" : Duration.millis(retention),
    transaction: transaction as Inbox["Service"]["transaction"],
    admit: (holder, entries) =>
      Effect.gen(function* () {
        const tx = (yield* CurrentTx) as Tx
        yield* access("admit", holder.topic, () => undefined, { holder, transaction: tx })
        const group = groupOf(holder.topic, holder.group)
        trimInbox(store, group)
        const { inbox, settledAt } = group
        const fresh = new Array<boolean>(entries.length).fill(false)
        const order = entries.map((_, index) => index).sort((a, b) => (entries[a]!.id < entries[b]!.id ? -1 : 1))
        for (const index of order) {
          const { id, outcome } = entries[index]!
          while (true) {
            if (tx.state !== "open") {
              return yield* new TransportError({
                operation: "admit",
                topic: holder.topic,
                reason: lost()
              })
            }
            const found = inbox.get(id)
            if (
              found === undefined ||
              found === "pending" ||
              (typeof found === "object" && found.state === "aborted")
            ) {
              // Taken by this transaction until it ends, as by a row that is inserted and not committed.
              inbox.set(id, tx)
              tx.changes.push(() => {
                inbox.set(id, outcome)
                settledAt.delete(id)
                settledAt.set(id, store.now())
              })
              fresh[index] = true
              break
            }
            if (found === tx) break
            if (typeof found === "string") {
              // A redrive that opens it again before the commit has a record of its own, which this one must not settle.
              tx.checks.push(() => inbox.get(id) !== "pending")
              break
            }
            yield* found.ended.await
          }
        }
        return fresh
      }),
    deadLetter: (letters) =>
      Effect.map(CurrentTx, (tx) => {
        for (const letter of letters) {
          tx!.changes.push(() => storeDeadLetters(groupOf(letter.topic, letter.group), [letter]))
        }
      }),
    isInfrastructure: (error) => error instanceof ConnectionLost
  }
}

export const make: Effect.Effect<Inbox["Service"], never, MemoryStore> = Effect.map(site, at)
