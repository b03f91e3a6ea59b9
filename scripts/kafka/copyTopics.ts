/** What the copy test and its members agree about. */
import { AtLeastOnce, Guarantee, Topic } from "@surety/core"
import { KafkaClient, KafkaTransactions, KafkaTransport } from "@surety/kafka"
import { Layer, Schema } from "effect"

export interface MemberOptions {
  readonly run: string
  readonly name: string
  readonly servers: string
  /** The most messages of a transaction. */
  readonly batch: number
  /** How long a transaction is held open. */
  readonly holdMillis: number
}

export const partitions = 9

/** The numbers of one key are published in their order. */
export const Numbered = Schema.Struct({ key: Schema.String, number: Schema.Int })

const topic = (name: string) =>
  Topic.make(name, {
    schema: Numbered,
    guarantee: "exactly-once-kafka",
    id: ({ key, number }) => `${key}/${number}`,
    key: ({ key }) => key,
    partitions
  })

export const copies = (run: string) => ({ from: topic(`copy-from-${run}`), to: topic(`copy-to-${run}`) })

/** Everything that a program of the test needs. */
export const layerCopy = (options: { readonly bootstrapServers: string; readonly name: string }) =>
  Guarantee.KafkaExactlyOnce.layer.pipe(
    Layer.provide(AtLeastOnce.layer),
    Layer.provide(KafkaTransactions.layer({ transactionalId: options.name, timeout: "20 seconds" })),
    Layer.provideMerge(KafkaTransport.layer({ acks: "all" })),
    Layer.provide(
      KafkaClient.layer({
        bootstrapServers: options.bootstrapServers,
        sessionTimeout: "6 seconds",
        rebalanceTimeout: "30 seconds"
      })
    )
  )
