/** Access to the store from a node, and what every way to publish has in common. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { partitionOf, totalBytes } from "../../Backend.ts"
import type { EncodedRecord } from "../../Envelope.ts"
import { type Around, Interference, type Operation } from "../../Interference.ts"
import { MemoryStore, Node } from "../../MemoryStore.ts"
import type { TopicDeclaration } from "../../Transport.ts"
import {
  TopicMismatch,
  TransactionFailed,
  TransportError,
  type TransportErrorReason,
  Unavailable
} from "../../TransportError.ts"
import { trimLog } from "./retention.ts"
import { abort, commit, makeLog, makeTx, type Store, type Tx } from "./store.ts"
import { CurrentTx } from "./transaction.ts"

type Concerned = Partial<Omit<Operation, "name" | "topic">>

export type Access = <A>(
  name: string,
  topic: string,
  body: () => A | TransportErrorReason,
  of?: Concerned
) => Effect.Effect<A, TransportError>

const isReason = (u: unknown): u is TransportErrorReason => u instanceof Error

/** From where the store is reached: what the services of one process share. */
export interface Site {
  readonly store: Store
  readonly node: { readonly alive: boolean }
  readonly access: Access
}

export const site: Effect.Effect<Site, never, MemoryStore> = Effect.contextWith(
  (context: Context.Context<MemoryStore>) => {
    const node = Context.get(context, Node)
    const access = makeAccess(node, Context.get(context, Interference))
    return Effect.succeed({ store: Context.get(context, MemoryStore), node, access })
  }
)

/** Runs against the store, unless the node is dead. */
const makeAccess =
  (node: Site["node"], around: Around | undefined): Access =>
  <A>(
    name: string,
    topic: string,
    body: () => A | TransportErrorReason,
    { holder, letters, transaction }: Concerned = {}
  ) => {
    const effect = Effect.suspend(() => {
      const failed = (reason: TransportErrorReason) =>
        Effect.fail(new TransportError({ operation: name, topic, reason }))
      if (!node.alive) return failed(new Unavailable({ detail: "the store cannot be reached" }))
      const result = body()
      return isReason(result) ? failed(result) : Effect.succeed(result as A)
    })
    return around === undefined ? effect : around.operation({ name, topic, holder, letters, transaction }, effect)
  }

export const declareAt = ({ access, store }: Site, topic: TopicDeclaration): Effect.Effect<void, TransportError> =>
  access("declare", topic.name, () => {
    const log = store.logs.get(topic.name)
    if (log === undefined) {
      store.logs.set(topic.name, makeLog(store, topic.partitions))
    } else if (log.partitions.length !== topic.partitions) {
      return new TopicMismatch({ declared: topic.partitions, stored: log.partitions.length })
    }
    return undefined
  })

/** Draws the offsets of records now; they can be read once the transaction commits. */
export const append = (store: Store, tx: Tx, topic: string, records: ReadonlyArray<EncodedRecord>): void => {
  const log = store.logs.get(topic)!
  const now = store.now()
  for (const record of records) {
    const partition = log.partitions[partitionOf(record, log.partitions.length)]!
    const end = partition.write(record, now)
    tx.changes.push(() => end("committed"))
    tx.undo.push(() => end("aborted"))
    tx.changed.add(partition.changed)
  }
  trimLog(store, topic, log)
}

/** Declares the topic, and stores records of a size that is allowed: at once, or with the transaction of the calling fiber. */
export const storeWith = (
  at: Site,
  topic: TopicDeclaration,
  records: ReadonlyArray<EncodedRecord>,
  write: (tx: Tx) => void
): Effect.Effect<void, TransportError> => {
  const { access, store } = at
  const writeIn = (name: string, transaction: Tx) =>
    access(
      name,
      topic.name,
      () => {
        const bytes = totalBytes(records, store.settings.maxRecordBytes)
        if (typeof bytes !== "number") return bytes
        if (transaction.state !== "open") return new TransactionFailed({ detail: "the transaction has ended" })
        write(transaction)
        return undefined
      },
      { transaction }
    )
  const writeNow = Effect.suspend(() => {
    const transaction = makeTx()
    const end = () =>
      commit(transaction) ? undefined : new Unavailable({ detail: "the connection to the store was lost" })
    return writeIn("draw", transaction).pipe(
      Effect.andThen(access("publish", topic.name, end, { transaction })),
      Effect.ensuring(Effect.sync(() => abort(transaction)))
    )
  })
  return Effect.andThen(
    declareAt(at, topic),
    Effect.flatMap(CurrentTx, (tx) => (tx === undefined ? writeNow : writeIn("publish", tx)))
  )
}
