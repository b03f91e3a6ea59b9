/** Offsets of a topic's partitions, and how far a group has come. */
import type { Holdback, Progress, TopicDeclaration } from "@surety/core/Transport"
import { InvalidState, TransportError } from "@surety/core/TransportError"
import * as Effect from "effect/Effect"
import * as RcMap from "effect/RcMap"
import * as Schedule from "effect/Schedule"
import type { Cluster } from "./cluster.ts"
import { connectFailed, failure } from "./errors.ts"
import { type Client, call, type KafkaError } from "./librdkafka.ts"
import { decode } from "./memo.ts"
import { partitionsOf } from "./topics.ts"

const timeout = 10_000

export type Offsets = ReadonlyMap<number, number>

const list = (
  { admin, library }: Cluster,
  topic: string,
  partitions: ReadonlyArray<number>,
  offset: "earliest" | "latest",
  isolationLevel: Client.IsolationLevel
): Effect.Effect<Offsets, TransportError> =>
  call<Array<Client.ListOffsetsResult>>(admin, (callback) =>
    admin.listOffsets(
      partitions.map((partition) => ({
        topic,
        partition,
        offset: offset === "earliest" ? library.OffsetSpec.EARLIEST : library.OffsetSpec.LATEST
      })),
      { timeout, isolationLevel },
      callback as never
    )
  ).pipe(
    // Of a topic that has just been made, or whose leader has just failed, a broker may know nothing yet.
    Effect.flatMap((found) => {
      const unknown = found.find(({ offset }) => offset < 0)
      return unknown === undefined
        ? Effect.succeed(new Map(found.map(({ offset, partition }) => [partition, offset])))
        : Effect.fail(unknown.error ?? unanswered)
    }),
    Effect.mapError(failure("offsets", topic)),
    Effect.retry({ schedule: Schedule.spaced("50 millis"), times: 200, while: ({ isRetryable }) => isRetryable })
  )

const unanswered = { code: -195, message: "the offsets of a partition are not known" } as KafkaError

const numbersOf = ({ partitions }: Pick<TopicDeclaration, "partitions">): ReadonlyArray<number> =>
  Array.from({ length: partitions }, (_, partition) => partition)

const committedOnly = 1 as Client.IsolationLevel
const everything = 0 as Client.IsolationLevel

/** The first offsets that are still in the log. */
export const earliest = (cluster: Cluster, topic: TopicDeclaration): Effect.Effect<Offsets, TransportError> =>
  list(cluster, topic.name, numbersOf(topic), "earliest", everything)

/** Where readers of committed records stand when they have read everything: the last stable offsets (rule 11). */
export const stable = (cluster: Cluster, topic: TopicDeclaration): Effect.Effect<Offsets, TransportError> =>
  list(cluster, topic.name, numbersOf(topic), "latest", committedOnly)

/** What a group has committed, where it has; without what open transactions are to add. */
const committed = (
  cluster: Cluster,
  topic: TopicDeclaration,
  group: string
): Effect.Effect<ReadonlyMap<number, Client.TopicPartitionOffsetAndMetadata>, TransportError> => {
  const { readers } = cluster
  const groupId = cluster.groupId(group, topic.name)
  return RcMap.get(readers, groupId).pipe(
    Effect.tapError(() => RcMap.invalidate(readers, groupId)),
    Effect.mapError(connectFailed("progress", topic.name)),
    Effect.flatMap((reader) =>
      call<Array<Client.TopicPartitionOffsetAndMetadata>>(reader, (callback) =>
        reader.committed(
          numbersOf(topic).map((partition) => ({ topic: topic.name, partition })),
          timeout,
          callback as never
        )
      ).pipe(Effect.mapError(failure("progress", topic.name)))
    ),
    Effect.map(
      (found) =>
        new Map(
          found.flatMap((each) =>
            typeof each.offset === "number" && each.offset >= 0 ? [[each.partition, each] as const] : []
          )
        )
    ),
    Effect.scoped
  )
}

export const progress = Effect.fnUntraced(function* (
  cluster: Cluster,
  name: string,
  group: string
): Effect.fn.Return<ReadonlyArray<Progress>, TransportError> {
  const topic = { name, partitions: (yield* partitionsOf(cluster, name)) ?? 0 }
  const offsets = yield* committed(cluster, topic, group)
  if (offsets.size === 0) {
    const reason = new InvalidState({ detail: `group "${group}" is not registered` })
    return yield* Effect.fail(new TransportError({ operation: "progress", topic: topic.name, reason }))
  }
  const ends = yield* stable(cluster, topic)
  return numbersOf(topic).map((partition) => {
    const end = ends.get(partition) ?? 0
    const { metadata, offset = 0 } = offsets.get(partition) ?? {}
    const { aside = 0, passed = 0 } = decode(metadata) ?? {}
    return { partition, settled: offset - 1, lag: Math.max(0, end - offset) + passed, parked: aside }
  })
})

/** Partitions with records behind a transaction that is open (rule 11); who has opened it brokers tell no reader. */
export const holdbacks = Effect.fnUntraced(function* (
  cluster: Cluster,
  name: string
): Effect.fn.Return<ReadonlyArray<Holdback>, TransportError> {
  const topic = { name, partitions: (yield* partitionsOf(cluster, name)) ?? 0 }
  const ends = yield* stable(cluster, topic)
  const latest = yield* list(cluster, name, numbersOf(topic), "latest", everything)
  return numbersOf(topic).flatMap((partition) =>
    latest.get(partition)! > ends.get(partition)!
      ? [{ by: `an open transaction on partition ${partition}`, age: undefined }]
      : []
  )
})
