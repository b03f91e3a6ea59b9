/** Access to the store from a node, and what every way to publish has in common. */
import * as Effect from "effect/Effect"
import { partitionOf, recordBytes } from "../../Backend.ts"
import type { EncodedRecord } from "../../Envelope.ts"
import type { TopicDeclaration } from "../../Transport.ts"
import {
  RecordTooLarge,
  TopicMismatch,
  TransactionFailed,
  TransportError,
  type TransportErrorReason,
  Unavailable
} from "../../TransportError.ts"
import { trimLog } from "./retention.ts"
import { makeLog, type Store } from "./store.ts"
import { CurrentTx } from "./transaction.ts"

export type Access = <A>(
  operation: string,
  topic: string,
  body: () => A | TransportErrorReason
) => Effect.Effect<A, TransportError>

const isReason = (u: unknown): u is TransportErrorReason => u instanceof Error

/** Runs against the store, unless the node is dead. */
export const accessFrom =
  (node: { readonly alive: boolean }): Access =>
  <A>(operation: string, topic: string, body: () => A | TransportErrorReason) =>
    Effect.suspend(() => {
      const failed = (reason: TransportErrorReason) => Effect.fail(new TransportError({ operation, topic, reason }))
      if (!node.alive) return failed(new Unavailable({ detail: "the store cannot be reached" }))
      const result = body()
      return isReason(result) ? failed(result) : Effect.succeed(result as A)
    })

export const declareIn = (store: Store, access: Access) => (topic: TopicDeclaration) =>
  access("declare", topic.name, () => {
    const log = store.logs.get(topic.name)
    if (log === undefined) {
      store.logs.set(topic.name, makeLog(topic.partitions))
    } else if (log.partitions.length !== topic.partitions) {
      return new TopicMismatch({ declared: topic.partitions, stored: log.partitions.length })
    }
    return undefined
  })

export const append = (store: Store, topic: string, records: ReadonlyArray<EncodedRecord>): void => {
  const log = store.logs.get(topic)!
  const now = store.now()
  for (const record of records) log.partitions[partitionOf(record, log.partitions.length)]!.append(record, now)
  trimLog(store, topic, log)
  log.appended.notify()
}

/** Declares the topic, and stores records of a size that is allowed: now, or with the transaction of the calling fiber. */
export const storeWith = (
  store: Store,
  access: Access,
  topic: TopicDeclaration,
  records: ReadonlyArray<EncodedRecord>,
  change: () => void
): Effect.Effect<void, TransportError> =>
  Effect.andThen(
    declareIn(store, access)(topic),
    Effect.flatMap(CurrentTx, (tx) =>
      access("publish", topic.name, () => {
        const { maxRecordBytes: limit } = store.settings
        for (const record of records) {
          const bytes = recordBytes(record)
          if (bytes > limit) return new RecordTooLarge({ id: record.id, bytes, limit })
        }
        if (tx === undefined) {
          change()
        } else if (tx.state !== "open") {
          return new TransactionFailed({ detail: "the transaction has ended" })
        } else {
          tx.changes.push(change)
        }
        return undefined
      })
    )
  )
