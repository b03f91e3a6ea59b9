/**
 * Transports: encoded records on a partitioned log with consumer groups.
 *
 * The same model in memory, in PostgreSQL and in Kafka, so that one consumer
 * engine and one conformance suite serve all. Programs do not call a transport:
 * they publish through `Producer` and consume through `Consumer`. This is the
 * seam that a backend implements.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Acks from "./Acks.ts"
import type { DeadLetter } from "./DeadLetters.ts"
import * as DelayedDelivery from "./DelayedDelivery.ts"
import type { Assumption, Gap } from "./Description.ts"
import type { EncodedRecord, StoredRecord } from "./Envelope.ts"
import * as internal from "./internal/memory/transport.ts"
import * as MemoryStore from "./MemoryStore.ts"
import type { TransportError } from "./TransportError.ts"

/**
 * What a transport needs to know of a topic.
 *
 * @category models
 * @since 0.1.0
 */
export interface TopicDeclaration {
  readonly name: string
  /** Fixed once the topic exists. */
  readonly partitions: number
}

/**
 * Where a group that did not exist before starts to read.
 *
 * @category models
 * @since 0.1.0
 */
export type StartFrom = "earliest" | "latest"

/**
 * A consumer group's subscription to one topic.
 *
 * @category models
 * @since 0.1.0
 */
export interface SubscribeOptions {
  readonly topic: TopicDeclaration
  readonly group: string
  readonly startFrom: StartFrom
}

/**
 * How many times a record was claimed singly, and how many of those claims
 * ended in a failure that was recorded. A claim with neither a failure nor a
 * settlement is one during which its process died.
 *
 * @category models
 * @since 0.1.0
 */
export interface Attempts {
  readonly claims: number
  readonly failures: number
}

/**
 * A record that a member has claimed.
 *
 * @category models
 * @since 0.1.0
 */
export interface ClaimedRecord extends StoredRecord {
  /** The counts of an earlier holder, where it left some. */
  readonly attempts: Attempts | undefined
}

/**
 * A record that is kept aside by a group: its cursor has passed it.
 *
 * @category models
 * @since 0.1.0
 */
export interface ParkedRecord {
  readonly offset: number
  /** The key whose later records wait behind it. None for a redriven one: it is exempt from order. */
  readonly key: string | undefined
  /**
   * When it is due, in milliseconds since the epoch. Undefined for one that
   * waits behind another one of its key.
   */
  readonly dueAt: number | undefined
}

/**
 * A record that is to be kept aside, with all that is needed to hand it out
 * again: its log may be in another store, and may be trimmed.
 *
 * @category models
 * @since 0.1.0
 */
export interface RecordToPark extends ParkedRecord {
  readonly record: StoredRecord
}

/**
 * Durable redelivery: records that wait longer than their lease should are kept
 * aside in the store, where any later holder of the partition finds them.
 *
 * **Details**
 *
 * `park` and `settle` join the transaction of the calling fiber, as
 * `Assignment.settle` does, and carry the epoch like it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Redelivery {
  /** Completes when others may have added records: a redrive of dead letters. */
  readonly added: Effect.Effect<void>
  /** What is parked, by offset: up to `max` of those after `after`. */
  readonly list: (after: number, max: number) => Effect.Effect<ReadonlyArray<ParkedRecord>, TransportError>
  /** Keeps records aside; for one that is already, changes when it is due. The counts of their attempts stay. */
  readonly park: (records: ReadonlyArray<RecordToPark>) => Effect.Effect<void, TransportError>
  /** The parked records of these offsets, in their order. */
  readonly read: (offsets: ReadonlyArray<number>) => Effect.Effect<ReadonlyArray<ClaimedRecord>, TransportError>
  /** Parked records that are settled: forgets them, and their attempts, and stores the dead letters that they end in. */
  readonly settle: (
    offsets: ReadonlyArray<number>,
    letters: ReadonlyArray<DeadLetter>
  ) => Effect.Effect<void, TransportError>
}

/**
 * One partition, held under a lease by one member of a group.
 *
 * **Details**
 *
 * Every operation that changes something carries the lease's epoch and fails
 * with `Fenced` once a later epoch exists. Where the transport and the inbox
 * share a store, `settle`, `fence` and `deadLetter` join the transaction of the
 * calling fiber.
 *
 * @category models
 * @since 0.1.0
 */
export interface Assignment {
  readonly partition: number
  readonly epoch: number
  /** The last settled offset when the lease began. */
  readonly settled: number
  /**
   * The last offset that an earlier holder had claimed without settling it, or
   * the settled one. Records up to it may have killed their process.
   */
  readonly suspectUntil: number
  /**
   * Completes when the partition is to be given back: finish what is in flight
   * and call `release`. Fails once the lease is lost: stop at once.
   */
  readonly revoked: Effect.Effect<void, TransportError>
  /**
   * Goes on after `offset` instead, whatever was settled here: where the group's
   * progress is kept in another store (`Inbox.adopt`). Called before the first
   * claim, if at all. Fails with `RecordsGone` unless the log is known to hold
   * every record after `offset` that it ever held, and never goes on elsewhere.
   */
  readonly seek: (offset: number) => Effect.Effect<void, TransportError>
  /**
   * Waits for records after the last claimed ones, and claims up to `max` of
   * them: that they are claimed is stored before they are returned.
   */
  readonly claim: (max: number) => Effect.Effect<ReadonlyArray<ClaimedRecord>, TransportError>
  /** Stores that everything up to `offset` is settled. */
  readonly settle: (offset: number) => Effect.Effect<void, TransportError>
  /** Checks the epoch, in a way that holds until the surrounding transaction ends. */
  readonly fence: Effect.Effect<void, TransportError>
  /**
   * Stores the counts of one record: one more claim before its handler runs, one
   * more failure after an attempt that failed, and the claim taken back where a
   * shutdown interrupted it. The holder knows what they were, so that it may repeat
   * one whose reply was lost.
   */
  readonly count: (offset: number, attempts: Attempts) => Effect.Effect<void, TransportError>
  /** Where the transport can keep records aside. Without it, every retry's delay is slept under the lease. */
  readonly redelivery?: Redelivery | undefined
  /** Stores dead letters; the same one twice is stored once. */
  readonly deadLetter: (letters: ReadonlyArray<DeadLetter>) => Effect.Effect<void, TransportError>
  /** Gives the partition back at once, so that its next holder need not wait for the lease to expire. */
  readonly release: Effect.Effect<void>
}

/**
 * A member of a group: partitions come and go.
 *
 * @category models
 * @since 0.1.0
 */
export interface Subscription {
  /** Waits for the next partition that this member is to serve. */
  readonly next: Effect.Effect<Assignment, TransportError>
  /**
   * Leaves the group, so that others take its partitions as they are released.
   * It is given no more, and keeps the leases of those that it still holds until
   * the scope closes.
   */
  readonly leave: Effect.Effect<void>
}

/**
 * How far a group has come on one partition.
 *
 * @category models
 * @since 0.1.0
 */
export interface Progress {
  readonly partition: number
  /** The last settled offset; one before the first when there is none. */
  readonly settled: number
  /** Records that can be read but are not settled, the parked ones included. */
  readonly lag: number
  /** Records that are kept aside until they are due. */
  readonly parked: number
}

/**
 * An open transaction that has published: until it ends, nothing that was
 * published after it began can be read.
 *
 * @category models
 * @since 0.1.0
 */
export interface Holdback {
  /** Who it is, as the store knows it. */
  readonly by: string
  /** For how long it has been open, in milliseconds; undefined where the store does not tell. */
  readonly age: number | undefined
}

/**
 * What a transport is, as a value: the conformance suite reads it, and the
 * documentation is generated from it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Characteristics {
  readonly name: string
  /** The layer that makes it, as it is written in a program. */
  readonly layer: string
  readonly durable: string
  readonly order: string
  readonly crossProcess: boolean
  readonly transactional: boolean
  /** Whether its assignments keep records aside (`Assignment.redelivery`). */
  readonly redelivery: boolean
  /** So many records beyond the claimed ones may be called suspects after a crash. Default: none. */
  readonly claimsAhead?: number | undefined
  /** Where a redriven message is: at its own place, or, as a record of its own, at the end of its partition. Default `in place`. */
  readonly redrives?: "in place" | "appended" | undefined
  /** What it does not promise. */
  readonly gaps: ReadonlyArray<Gap>
  readonly assumptions: ReadonlyArray<Assumption>
  /** What may be observed although no promise is broken. */
  readonly anomalies: ReadonlyArray<string>
}

/**
 * How late a record may come again, at the most, for reasons of the transport.
 *
 * @category models
 * @since 0.1.0
 */
export interface Bounds {
  /** For how long a record that is settled can still be read. */
  readonly retention: Duration.Duration | "forever"
  /** How long a silent member keeps its partitions. */
  readonly lease: Duration.Duration
}

/**
 * Who publishes: of those that have one name and shard, the one with the latest
 * epoch. The name is that of one outbox, and of no other that publishes to the
 * same store.
 *
 * @category models
 * @since 0.1.0
 */
export interface PublisherLease {
  readonly name: string
  readonly shard: number
  /** Greater for a later holder of the shard. */
  readonly epoch: number
}

/**
 * Stores records, all or none, in their order, and returns once they are as
 * durable as the transport promises.
 *
 * @category models
 * @since 0.1.0
 */
export type Publish = (
  topic: TopicDeclaration,
  records: ReadonlyArray<EncodedRecord>
) => Effect.Effect<void, TransportError>

/**
 * Moves encoded records.
 *
 * @category services
 * @since 0.1.0
 */
export class Transport extends Context.Service<
  Transport,
  {
    readonly characteristics: Characteristics
    /** The largest record, in bytes of id, key, headers and payload together. */
    readonly maxRecordBytes: number
    /** Without them, only an inbox that remembers forever makes it exactly-once. */
    readonly bounds?: Bounds | undefined
    /** Identifies the store: an inbox of the same store shares its transactions. */
    readonly store: object
    /**
     * The store in whose transactions `publish` joins, and by whose commit it is
     * acknowledged, where that is another one than `store`: of an outbox, from
     * which a relay carries the records on.
     */
    readonly publishStore?: object | undefined
    /** Makes the topic exist. Idempotent. */
    readonly declare: (topic: TopicDeclaration) => Effect.Effect<void, TransportError>
    /**
     * In a transaction of the same store the records are part of it: stored if
     * and only if it commits.
     */
    readonly publish: Publish
    /**
     * Opens a publisher for a relay (rule 25), where the transport can refuse the
     * one before it: from then on, whatever an earlier holder of the same name and
     * shard publishes fails with `Fenced` and stores nothing, a call that is under
     * way included. The holder makes sure that its epoch is the latest *after*
     * opening, so that a transport may also go by which one was opened last. What
     * it publishes is all stored or not at all.
     */
    readonly fencedPublisher?:
      | ((lease: PublisherLease) => Effect.Effect<Publish, TransportError, Scope.Scope>)
      | undefined
    /** Whether the calling fiber is inside a transaction that `publish` would join. */
    readonly inTransaction: Effect.Effect<boolean>
    /** Runs an effect as if the calling fiber were in no such transaction. */
    readonly outsideTransaction: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
    /** Registers the group, joins it, and leaves it when the scope closes. */
    readonly subscribe: (options: SubscribeOptions) => Effect.Effect<Subscription, TransportError, Scope.Scope>
    /** How far a group has come. Fails with `InvalidState` for one that is not registered. */
    readonly progress: (topic: string, group: string) => Effect.Effect<ReadonlyArray<Progress>, TransportError>
    /** What keeps records of a topic from being read, the oldest first. Without it, nothing does. */
    readonly holdbacks?: ((topic: string) => Effect.Effect<ReadonlyArray<Holdback>, TransportError>) | undefined
  }
>()("@surety/core/Transport") {}

/**
 * A transport in this process's memory: for tests, and for what may be lost
 * when the process ends. Acknowledges what it stored, and can deliver later.
 *
 * **Gotchas**
 *
 * Nothing survives the process. Time is Effect's `Clock`, so leases and
 * schedules run under `TestClock`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMemory: Layer.Layer<Transport | Acks.Acks | DelayedDelivery.DelayedDelivery> = Layer.mergeAll(
  Layer.effect(Transport, internal.make),
  DelayedDelivery.layerMemory,
  Acks.layer({ level: "all" })
).pipe(Layer.provide(MemoryStore.layer))
