/** Joins a group with a client of its own. */
import type { SubscribeOptions, Subscription } from "@surety/core/Transport"
import type { TransportError } from "@surety/core/TransportError"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import { type Cluster, connect, create } from "./cluster.ts"
import { connectFailed } from "./errors.ts"
import type { Client, Consumer, KafkaError } from "./librdkafka.ts"
import { Member, type Rebalance } from "./member.ts"
import { earliest, stable } from "./offsets.ts"
import type { Partition } from "./partition.ts"
import type { Producer } from "./producer.ts"

const assignPartitions = -175

const failed = (error: KafkaError | undefined): boolean => error !== undefined && error.code !== 0

export const subscribe = (
  cluster: Cluster,
  subscription: SubscribeOptions,
  /** Of dead letters, and of what is kept aside. */
  producer: Producer
): Effect.Effect<Subscription, TransportError, Scope.Scope> =>
  Effect.gen(function* () {
    const { group, startFrom, topic } = subscription
    // Before the group is joined: what is published from now on comes after it.
    const starts = yield* (startFrom === "earliest" ? earliest : stable)(cluster, topic)
    const rebalances = yield* Queue.unbounded<Rebalance>()
    const assigned = yield* Queue.unbounded<Partition>()
    let member: Member | undefined
    const consumer = yield* create(
      () =>
        new cluster.library.KafkaConsumer(
          {
            ...cluster.connection,
            "group.id": cluster.groupId(group, topic.name),
            "session.timeout.ms": cluster.sessionMillis,
            "heartbeat.interval.ms": Math.ceil(Math.min(3_000, cluster.sessionMillis / 3)),
            "max.poll.interval.ms": Math.max(cluster.rebalanceMillis, cluster.sessionMillis),
            "partition.assignment.strategy": "cooperative-sticky",
            "isolation.level": "read_committed",
            // Rule 9: nothing is stored but by us.
            "enable.auto.commit": false,
            "enable.auto.offset.store": false,
            "enable.partition.eof": true,
            // What is fetched ahead is dropped when a partition is paused.
            "queued.min.messages": 10_000,
            "fetch.queue.backoff.ms": 5,
            "queued.max.messages.kbytes": 16_384,
            "fetch.error.backoff.ms": 100,
            // Rule 12: an idle member waits in no thread of the pool.
            queue_non_empty_cb: () => member?.woken.notify(),
            offset_commit_cb: (
              error: KafkaError | undefined,
              offsets: ReadonlyArray<Client.TopicPartition> | undefined
            ) => member?.commits.answered(error ?? offsets?.find((offset) => failed(offset.error))?.error),
            rebalance_cb: (error: KafkaError, partitions: ReadonlyArray<Client.TopicPartition>) =>
              void Queue.offerUnsafe(rebalances, {
                assigns: error.code === assignPartitions,
                lost: consumer.assignmentLost(),
                partitions: partitions.map(({ partition }) => partition)
              })
          } as never,
          { "auto.offset.reset": cluster.outOfRange === "fail" ? "error" : "earliest" } as never
        ) as Consumer
    ).pipe(
      Effect.flatMap((made) => connect(made, 30_000)),
      Effect.mapError(connectFailed("subscribe", topic.name))
    )
    consumer.setDefaultConsumeTimeout(0)
    consumer.setDefaultIsTimeoutOnlyForFirstMessage(true)
    const scope = yield* Effect.scope
    member = new Member({ cluster, subscription, consumer, scope, starts, rebalances, assigned, producer })
    consumer.subscribe([topic.name])
    yield* Effect.forkScoped(member.run)
    yield* Effect.addFinalizer(() => member.close)
    yield* member.registered
    return member
  })
