/**
 * The transactions of Kafka, of which `KafkaExactlyOnce` is made: the offsets of
 * a batch, the records that its handlers published, and its dead letters commit
 * together (KIP-447).
 *
 * A transaction that is aborted is made again, with the messages that are in
 * memory. Where its outcome cannot be told, or the producer was fenced, the
 * partition is given up and taken up again from the committed offsets, which
 * tell what happened.
 *
 * Known limits: each consumer of an instance has one transactional producer, so
 * that the transactions of its partitions follow each other. Two instances of
 * one `transactionalId` fence each other.
 *
 * @since 0.1.0
 */

import type { Part } from "@surety/core/Description"
import type { Holder } from "@surety/core/Inbox"
import { LogTransactions } from "@surety/core/LogTransactions"
import type { OutgoingRecord } from "@surety/core/Outbox"
import { Transaction } from "@surety/core/Transaction"
import { Fenced, TransportError } from "@surety/core/TransportError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { Cluster } from "./internal/cluster.ts"
import type { Holder as Held, Offset } from "./internal/commits.ts"
import { deadLetter } from "./internal/deadLetter.ts"
import type { Consumer } from "./internal/librdkafka.ts"
import { Slot } from "./internal/slot.ts"
import { CurrentTransaction, type KafkaTransaction } from "./internal/transaction.ts"
import { KafkaClient } from "./KafkaClient.ts"

/**
 * How transactions are made.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * Names this instance of the program, and no other that runs at the same time; the same after a restart: what the
   * earlier process has left open is ended then, instead of holding up readers until it times out. The number of a
   * replica, say.
   */
  readonly transactionalId: string
  /** How long a transaction may be open before the brokers abort it: longer than a batch takes. Default 1 minute. */
  readonly timeout?: Duration.Input | undefined
}

const description: Part = {
  layer: "KafkaTransactions.layer",
  promise: "what a handler publishes to the cluster leaves if and only if the offset of its message is committed",
  gaps: [],
  assumptions: [],
  possible: ["transactions of an instance that was killed hold up readers until its successor starts, or they time out"]
}

interface Settling {
  readonly consumer: Consumer
  readonly holder: Held
  readonly offset: Offset
}

const make = (cluster: Cluster, options: Options, scope: Scope.Scope): LogTransactions["Service"] => {
  const settings = {
    prefix: options.transactionalId,
    timeoutMillis: Duration.toMillis(Duration.fromInputUnsafe(options.timeout ?? "1 minute"))
  }
  const slots = new Map<string, Slot>()
  const slotOf = ({ group, topic }: Holder): Slot => {
    const name = `${group}.${topic}`
    const slot = slots.get(name) ?? new Slot(cluster, topic, { ...settings, name }, scope)
    slots.set(name, slot)
    return slot
  }

  const transaction = <A, E, R>(of: Holder, body: Effect.Effect<A, E, R>) =>
    slotOf(of).use((producer) =>
      Effect.suspend(() => {
        const settling: Array<Settling> = []
        const ended: Array<(committed: boolean) => void> = []
        const afterCommit: Array<Effect.Effect<void>> = []
        const end = (committed: boolean) =>
          Effect.sync(() => {
            for (const each of ended.splice(0)) each(committed)
          })
        const reason = new Fenced({ group: of.group, partition: of.partition, epoch: of.epoch })
        return producer
          .run(
            (send) =>
              body.pipe(
                Effect.provideService(CurrentTransaction, {
                  store: cluster,
                  send,
                  settle: (consumer, holder, offset) => void settling.push({ consumer, holder, offset }),
                  ended
                } satisfies KafkaTransaction),
                Effect.provideService(Transaction, {
                  store: cluster,
                  afterCommit: (effect) => Effect.sync(() => void afterCommit.push(effect))
                })
              ),
            () =>
              settling[0] && {
                consumer: settling[0].consumer,
                offsets: settling.map(({ offset }) => offset),
                // Rule 4, and rule 3: the client is asked as well, which may know before it has told us.
                held: () => settling.every(({ consumer, holder }) => holder.held && !consumer.assignmentLost())
              },
            () => new TransportError({ operation: "commit", topic: of.topic, reason })
          )
          .pipe(
            Effect.tap(() => end(true)),
            Effect.onError(() => end(false)),
            Effect.tap(() => Effect.forEach(afterCommit, (effect) => effect, { discard: true }))
          )
      })
    ) as Effect.Effect<A, E | TransportError, Exclude<R, Transaction>>

  return {
    inbox: {
      store: cluster,
      description,
      // It remembers nothing.
      retention: Duration.zero,
      transaction,
      admit: (_, entries) => Effect.succeed(entries.map(() => true)),
      deadLetter: deadLetter(cluster, {
        send: () => Effect.die(new Error("dead letters of a transaction were stored outside of it"))
      }),
      isInfrastructure: () => false
    },
    outbox: {
      store: cluster,
      description,
      carries: (transport) => transport.store === cluster,
      savepoint: Effect.undefined,
      write: (records) =>
        Effect.forEach(byTopic(records), ([first, ...others]) =>
          first!.transport.publish(
            first!.topic,
            [first!, ...others].map(({ record }) => record)
          )
        )
    }
  }
}

/** Records of one topic together, in their order. */
const byTopic = (records: ReadonlyArray<OutgoingRecord>): ReadonlyArray<ReadonlyArray<OutgoingRecord>> =>
  Array.from(Map.groupBy(records, ({ topic }) => topic.name).values())

/**
 * The transactions of a cluster.
 *
 * **Example**
 *
 * ```ts
 * const Live = KafkaExactlyOnce.layer.pipe(
 *   Layer.provideMerge(AtLeastOnce.layer),
 *   Layer.provideMerge(KafkaTransport.layer({ acks: "all" })),
 *   Layer.provide(KafkaTransactions.layer({ transactionalId: `orders-${replica}` })),
 *   Layer.provideMerge(KafkaClient.layer({ bootstrapServers }))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<LogTransactions, never, KafkaClient> =>
  Layer.effect(
    LogTransactions,
    Effect.gen(function* () {
      return make(yield* KafkaClient, options, yield* Effect.scope)
    })
  )
