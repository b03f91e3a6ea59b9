/**
 * The transport on Apache Kafka.
 *
 * Groups are Kafka's own, with cooperative rebalancing; progress is committed
 * once it is contiguous, and never by itself. Beside the offset, in its
 * metadata, a group stores the epoch of a partition's holder, how far it has
 * claimed, and the attempts of messages that failed: what a stale holder writes
 * is refused by the group's generation, and a message that ends its process is
 * known to the next one.
 *
 * Kafka's partitioner is that of its own producers (murmur2), so that programs
 * in other languages agree about the partition of a key.
 *
 * Known limits: a batch that fails may have been stored in part; the generation
 * fences what a group stores, not what a handler does elsewhere; what a group
 * keeps aside of a partition is read whole when the partition is taken up.
 *
 * @since 0.1.0
 */
import * as Acks from "@surety/core/Acks"
import { explaining } from "@surety/core/Backend"
import type { EncodedRecord } from "@surety/core/Envelope"
import { type Characteristics, type TopicDeclaration, Transport } from "@surety/core/Transport"
import { Fenced, TransportError } from "@surety/core/TransportError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type { Cluster } from "./internal/cluster.ts"
import * as offsets from "./internal/offsets.ts"
import { claimsAhead } from "./internal/partition.ts"
import { type Outgoing, Producer } from "./internal/producer.ts"
import { subscribe } from "./internal/subscribe.ts"
import { declare } from "./internal/topics.ts"
import { CurrentTransaction } from "./internal/transaction.ts"
import { TransactionalProducer } from "./internal/transactional.ts"
import { KafkaClient } from "./KafkaClient.ts"
import type { KafkaClientError } from "./KafkaClientError.ts"

/**
 * How records are produced.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<A extends Acks.Level = Acks.Level> {
  /**
   * - `all`: every replica that is in sync has it. The producer is idempotent: what it repeats is stored once, in order.
   * - `leader`: the partition's leader has it, which may lose it when it fails.
   * - `none`: it was sent, or is about to be.
   */
  readonly acks: A
  /**
   * For how long the client itself repeats a record. After that the outcome of the publish is unknown, and the
   * guarantee's own schedule decides whether it is made again. Default 10 seconds.
   */
  readonly ackTimeout?: Duration.Input | undefined
  /** How long records wait for others to share a request. Default 5 milliseconds. */
  readonly linger?: Duration.Input | undefined
  /** The most bytes of a request of one partition. Default 1,000,000. */
  readonly batchBytes?: number | undefined
  /** Default none. `gzip` and `zstd` need a client that was built with them. */
  readonly compression?: "none" | "gzip" | "snappy" | "lz4" | "zstd" | undefined
}

const millisOf = (duration: Duration.Input) => Duration.toMillis(Duration.fromInputUnsafe(duration))

const ackTimeoutOf = ({ ackTimeout }: Options) => Duration.fromInputUnsafe(ackTimeout ?? "10 seconds")

/** What the acknowledgement may take beyond the client's own timeout, until the client has told of that. */
const grace = Duration.seconds(2)

const wire = { none: 0, leader: 1, all: -1 } as const

const settingsOf = (options: Options) => ({
  acks: wire[options.acks],
  "enable.idempotence": options.acks === "all",
  "message.timeout.ms": Duration.toMillis(ackTimeoutOf(options)),
  "linger.ms": millisOf(options.linger ?? "5 millis"),
  "batch.size": options.batchBytes ?? 1_000_000,
  "compression.type": options.compression ?? "none"
})

const characteristicsOf = ({ acks }: Options): Characteristics => ({
  name: "kafka",
  layer: `KafkaTransport.layer({ acks: "${acks}" })`,
  durable: {
    none: "no: nothing is waited for",
    leader: "on the partition's leader alone",
    all: "on every replica that is in sync"
  }[acks],
  order: "per partition, in publish order",
  crossProcess: true,
  transactional: false,
  redelivery: true,
  claimsAhead,
  redrives: "appended",
  gaps:
    acks === "all"
      ? []
      : [
          {
            allows: "loss",
            when:
              acks === "none"
                ? "a record does not reach its broker"
                : "a partition's leader fails before others have the record",
            raisedBy: 'KafkaTransport.layer({ acks: "all" })'
          }
        ],
  assumptions:
    acks === "all"
      ? [
          {
            holds: "the topic has min.insync.replicas of at least 2, and unclean.leader.election.enable is off",
            known: "not checked",
            otherwise: "loss",
            raisedBy: 'createTopics: { replicationFactor: 3, config: { "min.insync.replicas": "2" } }'
          },
          {
            holds: "the topic's retention is longer than a group is behind",
            known: "not checked",
            otherwise: "loss",
            raisedBy: 'outOfRange: "fail", which stops the group instead'
          }
        ]
      : [],
  anomalies: [
    "a batch that fails may have been stored in part",
    "a publish that is repeated after an unknown outcome may be stored twice, with one id",
    "a message that a paused worker keeps aside may be handled by its successor as well",
    "dead letters are redriven as records of their own, at the end of their partitions",
    "partitions of a member that leaves are given to others together, once it has released all of them",
    `after a crash up to ${claimsAhead} records that nobody had claimed are handled alone, as suspects`,
    "counts of more than 150 failing messages of a partition are forgotten with the process"
  ]
})

/** Producing for a transport, and dead letters that are as durable as any, whatever it says of acknowledgements. */
const producersOf = (
  cluster: Cluster,
  options: Options
): Effect.Effect<{ readonly records: Producer; readonly letters: Producer }, KafkaClientError, Scope.Scope> =>
  Effect.gen(function* () {
    const records = yield* Producer.make(cluster, settingsOf(options))
    const forLetters = options.acks === "all" ? records : yield* Producer.make(cluster, settingsOf({ acks: "all" }))
    return { records, letters: forLetters }
  })

const make = (options: Options): Effect.Effect<Transport["Service"], KafkaClientError, KafkaClient | Scope.Scope> =>
  Effect.gen(function* () {
    const cluster = yield* KafkaClient
    const producers = (yield* explaining) ? undefined : yield* producersOf(cluster, options)

    const publish = (topic: TopicDeclaration, records: ReadonlyArray<EncodedRecord>) =>
      Effect.gen(function* () {
        if (records.length === 0) return
        const transaction = yield* CurrentTransaction
        yield* declare(cluster, topic)
        const outgoing = records.map((record): Outgoing => ({ record }))
        if (transaction !== undefined) return yield* transaction.send(topic.name, outgoing)
        const { records: producer } = producers!
        yield* options.acks === "none"
          ? producer.hand("publish", topic.name, outgoing)
          : producer.send("publish", topic.name, outgoing)
      })

    return Transport.of({
      characteristics: characteristicsOf(options),
      maxRecordBytes: cluster.maxRecordBytes,
      store: cluster,
      declare: (topic) => declare(cluster, topic),
      publish,
      // Rule 25 of POSTGRES.md: the one that was opened last ends the ones before it.
      fencedPublisher: ({ epoch, name, shard }) =>
        Effect.gen(function* () {
          const producer = yield* TransactionalProducer.make(cluster, "publish", name, {
            transactionalId: `surety-relay-${name}-${shard}`,
            timeoutMillis: 30_000
          })
          const turn = Semaphore.makeUnsafe(1)
          const fenced = (topic: string) =>
            new TransportError({
              operation: "publish",
              topic,
              reason: new Fenced({ group: name, partition: shard, epoch })
            })
          return (topic, records) =>
            records.length === 0
              ? Effect.void
              : Effect.andThen(
                  declare(cluster, topic),
                  turn.withPermit(
                    Effect.suspend(() =>
                      producer.unusable
                        ? Effect.fail(fenced(topic.name))
                        : Effect.mapError(
                            producer.run((send) =>
                              send(
                                topic.name,
                                records.map((record) => ({ record }))
                              )
                            ),
                            (error) => (producer.unusable ? fenced(topic.name) : error)
                          )
                    )
                  )
                )
        }),
      inTransaction: Effect.map(CurrentTransaction, (transaction) => transaction?.store === cluster),
      outsideTransaction: Effect.provideService(CurrentTransaction, undefined),
      subscribe: (subscription) =>
        Effect.andThen(declare(cluster, subscription.topic), subscribe(cluster, subscription, producers!.letters)),
      progress: (topic, group) => offsets.progress(cluster, topic, group),
      holdbacks: (topic) => offsets.holdbacks(cluster, topic)
    })
  })

type Provided<A extends Acks.Level> = A extends "all" ? Transport | Acks.Acks : Transport

/**
 * The transport. With `acks: "all"` it provides the acknowledgement that
 * at-least-once delivery is made of; with less it does not, and
 * `AtLeastOnce.layer` does not compile over it.
 *
 * **Example**
 *
 * ```ts
 * const Live = AtLeastOnce.layer.pipe(
 *   Layer.provideMerge(KafkaTransport.layer({ acks: "all" })),
 *   Layer.provide(KafkaClient.layer({ bootstrapServers: "localhost:9092" }))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <const A extends Acks.Level>(
  options: Options<A>
): Layer.Layer<Provided<A>, KafkaClientError, KafkaClient> => {
  const transport = Layer.effect(Transport, make(options))
  const acks = Acks.layer({ level: "all", timeout: Duration.sum(ackTimeoutOf(options), grace) })
  return (options.acks === "all" ? Layer.merge(transport, acks) : transport) as Layer.Layer<
    Provided<A>,
    KafkaClientError,
    KafkaClient
  >
}
