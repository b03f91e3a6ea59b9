/** Makes topics exist, and refuses those that have another number of partitions. */
import type { TopicDeclaration } from "@surety/core/Transport"
import { InvalidState, TopicMismatch, TransportError, type TransportErrorReason } from "@surety/core/TransportError"
import * as Effect from "effect/Effect"
import type { Cluster } from "./cluster.ts"
import { failure, reasonOf } from "./errors.ts"
import { type Client, call, codes } from "./librdkafka.ts"

const timeout = 10_000

const failed = (topic: string, reason: TransportErrorReason) =>
  Effect.fail(new TransportError({ operation: "declare", topic, reason }))

/** How many partitions a topic has, or undefined where it does not exist. */
export const partitionsOf = (cluster: Cluster, topic: string): Effect.Effect<number | undefined, TransportError> => {
  const known = cluster.topics.get(topic)
  if (known !== undefined) return Effect.succeed(known)
  return call<Array<Client.TopicDescription>>(cluster.admin, (callback) =>
    cluster.admin.describeTopics([topic], { timeout }, callback as never)
  ).pipe(
    Effect.mapError(failure("declare", topic)),
    Effect.flatMap(([description]) => {
      const error = description?.error
      if (error === undefined || error === null || error.code === 0)
        return Effect.succeed(description?.partitions.length)
      return error.code === codes.unknownTopic ? Effect.undefined : failed(topic, reasonOf(error))
    }),
    Effect.tap((partitions) =>
      Effect.sync(() => {
        if (partitions !== undefined) cluster.topics.set(topic, partitions)
      })
    )
  )
}

const create = (cluster: Cluster, { name, partitions }: TopicDeclaration, config: Readonly<Record<string, string>>) => {
  const { createTopics } = cluster
  if (createTopics === false) {
    const detail = "the topic does not exist, and createTopics is false; create it"
    return failed(name, new InvalidState({ detail }))
  }
  return call<void>(cluster.admin, (callback) =>
    cluster.admin.createTopic(
      {
        topic: name,
        num_partitions: partitions,
        // -1: the brokers' own default.
        replication_factor: createTopics.replicationFactor ?? -1,
        config: { ...createTopics.config, ...config }
      },
      timeout,
      callback as never
    )
  ).pipe(
    Effect.catchIf(
      ({ code }) => code === codes.topicAlreadyExists,
      () => Effect.void
    ),
    Effect.mapError(failure("declare", name))
  )
}

export const declare = (
  cluster: Cluster,
  topic: TopicDeclaration,
  config: Readonly<Record<string, string>> = {}
): Effect.Effect<void, TransportError> =>
  Effect.gen(function* () {
    let stored = yield* partitionsOf(cluster, topic.name)
    while (stored === undefined) {
      yield* create(cluster, topic, config)
      // It is known to every broker a little later.
      stored = yield* partitionsOf(cluster, topic.name)
    }
    if (stored !== topic.partitions)
      return yield* failed(topic.name, new TopicMismatch({ declared: topic.partitions, stored }))
  })
