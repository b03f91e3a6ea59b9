/**
 * The dead letters on Kafka: records of a compacted topic beside their own,
 * `payments.dead-letters` for `payments`, whose headers say why.
 *
 * A redrive publishes a message once more to its own topic, for the group alone
 * that failed on it, and ends the dead letter, in one Kafka transaction. Other
 * groups of Surety pass the record over.
 *
 * Known limits: letters are found by reading the topic's dead letters from the
 * beginning, and are held in memory while they are listed. Consumers that are
 * not Surety's see a redriven record as one more. It is at the end of its
 * partition: it is exempt from order. Of two redrives of one topic at the same
 * time, the later one ends the earlier one.
 *
 * @since 0.1.0
 */
import { type DeadLetter, DeadLetters, type Filter } from "@surety/core/DeadLetters"
import type { TransportError } from "@surety/core/TransportError"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { Cluster } from "./internal/cluster.ts"
import { failure } from "./internal/errors.ts"
import * as letters from "./internal/letters.ts"
import { call } from "./internal/librdkafka.ts"
import { readAll } from "./internal/log.ts"
import { tombstone } from "./internal/placed.ts"
import type { Outgoing } from "./internal/producer.ts"
import { redriveHeader } from "./internal/records.ts"
import { partitionsOf } from "./internal/topics.ts"
import { TransactionalProducer } from "./internal/transactional.ts"
import { KafkaClient } from "./KafkaClient.ts"

/** How many letters share a transaction. */
const batchSize = 100

const matches =
  ({ before, group, id, tag }: Filter) =>
  (letter: DeadLetter): boolean =>
    (group === undefined || letter.group === group) &&
    (id === undefined || letter.record.id === id) &&
    (tag === undefined || letter.failure.tag === tag) &&
    (before === undefined || letter.time < before)

const make = (cluster: Cluster): DeadLetters["Service"] => {
  /** The topics that have dead letters. */
  const sources = ({ topic }: Filter): Effect.Effect<ReadonlyArray<string>, TransportError> =>
    topic === undefined
      ? call<ReadonlyArray<string>>(cluster.admin, (callback) =>
          cluster.admin.listTopics({ timeout: 10_000 }, callback as never)
        ).pipe(
          Effect.mapError(failure("dead-letters", "*")),
          Effect.map((names) => names.flatMap((name) => letters.sourceOf(name) ?? []).sort())
        )
      : Effect.map(partitionsOf(cluster, letters.letterTopic(topic)), (partitions) =>
          partitions === undefined ? [] : [topic]
        )

  const read = (topic: string, filter: Filter): Effect.Effect<ReadonlyArray<DeadLetter>, TransportError> =>
    Effect.suspend(() => {
      const found = letters.lettersOf(topic)
      return Effect.map(
        readAll(cluster, letters.letterTopic(topic), (message) => found.add(message)),
        () => letters.sorted(found.all.filter(matches(filter)))
      )
    })

  /** Ends the letters that match, a transaction for each batch of them, with what is to be published beside. */
  const end = (operation: string, filter: Filter, beside: (letter: DeadLetter) => ReadonlyArray<Outgoing>) =>
    Effect.gen(function* () {
      let total = 0
      for (const topic of yield* sources(filter)) {
        total += yield* Effect.gen(function* () {
          // One at a time: a later one ends the earlier one, and reads what that has done.
          const producer = yield* TransactionalProducer.make(cluster, operation, topic, {
            transactionalId: `surety-dead-letters-${topic}`,
            timeoutMillis: 30_000
          })
          const found = yield* read(topic, filter)
          for (let from = 0; from < found.length; from += batchSize) {
            const batch = found.slice(from, from + batchSize)
            yield* producer.run((send) =>
              Effect.andThen(
                send(topic, batch.flatMap(beside)),
                send(
                  letters.letterTopic(topic),
                  batch.map(({ group, record }) => tombstone(group, record))
                )
              )
            )
          }
          return found.length
        }).pipe(Effect.scoped)
      }
      return total
    })

  return {
    list: (filter = {}) =>
      Stream.unwrap(
        Effect.map(sources(filter), (topics) =>
          Stream.fromIterable(topics).pipe(
            Stream.flatMap((topic) => Stream.unwrap(Effect.map(read(topic, filter), Stream.fromIterable)))
          )
        )
      ),
    get: ({ group, offset, partition, topic }) =>
      Effect.gen(function* () {
        const [source] = yield* sources({ topic })
        const found = source === undefined ? [] : yield* read(source, { group })
        return Option.fromUndefinedOr(
          found.find(({ record }) => record.partition === partition && record.offset === offset)
        )
      }),
    redrive: (filter = {}) =>
      end("redrive", filter, ({ group, record }) => [{ record, headers: { [redriveHeader]: group } }]),
    purge: (filter = {}) => end("purge", filter, () => [])
  }
}

/**
 * Dead letters beside the topics of a cluster.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<DeadLetters, never, KafkaClient> = Layer.effect(
  DeadLetters,
  Effect.map(KafkaClient, make)
)
