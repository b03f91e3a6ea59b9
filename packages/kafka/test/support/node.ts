/** One process on the cluster of the run, and waiting for what a consumer does. */
import { AtLeastOnce, AtMostOnce, Guarantee, Topic } from "@surety/core"
import * as KafkaClient from "@surety/kafka/KafkaClient"
import * as KafkaDeadLetters from "@surety/kafka/KafkaDeadLetters"
import * as KafkaTransactions from "@surety/kafka/KafkaTransactions"
import * as KafkaTransport from "@surety/kafka/KafkaTransport"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { bootstrapServers } from "./kafka.ts"

export const uniqueName = (name: string): string => `${name}-${crypto.randomUUID().slice(0, 8)}`

export const layerClient = (options: Partial<KafkaClient.Options> = {}) =>
  KafkaClient.layer({
    bootstrapServers,
    sessionTimeout: "3 seconds",
    rebalanceTimeout: "20 seconds",
    groupId: (group, topic) => `${topic}.${group}`,
    ...options
  })

export const layerNode = (
  options: {
    readonly transactionalId?: string
    readonly ackTimeout?: KafkaTransport.Options["ackTimeout"]
    readonly client?: Partial<KafkaClient.Options>
  } = {}
) =>
  Layer.mergeAll(AtMostOnce.layer, Guarantee.KafkaExactlyOnce.layer).pipe(
    Layer.provideMerge(AtLeastOnce.layer),
    Layer.provide(KafkaTransactions.layer({ transactionalId: options.transactionalId ?? uniqueName("node") })),
    Layer.provideMerge(KafkaTransport.layer({ acks: "all", linger: 0, ackTimeout: options.ackTimeout })),
    Layer.provideMerge(KafkaDeadLetters.layer),
    Layer.provideMerge(layerClient(options.client))
  )

export const Note = Schema.Struct({ id: Schema.String, key: Schema.String })
export type Note = typeof Note.Type

export const notes = <const G extends Guarantee.Name>(guarantee: G, partitions = 3) =>
  Topic.make(uniqueName("notes"), { schema: Note, guarantee, id: ({ id }) => id, key: ({ key }) => key, partitions })

export const note = (index: number, keys = 5): Note => ({ id: `n-${index}`, key: `key-${index % keys}` })

/** Looks until it holds; the test's own timeout bounds it. */
export const until = <E, R>(holds: Effect.Effect<boolean, E, R>): Effect.Effect<void, E, R> =>
  Effect.asVoid(Effect.repeat(holds, { until: (now) => now, schedule: Schedule.spaced("20 millis") }))
