/**
 * The outbox on PostgreSQL: what a handler publishes is inserted into the log
 * in the handler's own transaction, just before it settles.
 *
 * Offsets are drawn late, after the locks of the handler's own statements, so
 * that an open transaction holds the readers of the topic back as shortly as
 * possible. Messages that were published in a savepoint which the handler
 * rolled back are left out.
 *
 * To a transport of another system it carries them through a relay: see
 * {@link layerRelay}.
 *
 * Known limits: only savepoints of `sql.withTransaction` are known: what is published inside a `SAVEPOINT` that a
 * handler makes by hand leaves with the transaction, rolled back to it or not;
 * so does an at-most-once message inside any savepoint.
 *
 * @since 0.1.0
 */
import * as Acks from "@surety/core/Acks"
import * as Backend from "@surety/core/Backend"
import type { ConsumeError } from "@surety/core/ConsumeError"
import { DelayedDelivery } from "@surety/core/DelayedDelivery"
import type { EncodedRecord } from "@surety/core/Envelope"
import { AtLeastOnce, CompositionError } from "@surety/core/Guarantee"
import { Outbox, type OutgoingRecord } from "@surety/core/Outbox"
import { type TopicDeclaration, Transport } from "@surety/core/Transport"
import { TransportError } from "@surety/core/TransportError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { type Database, rows } from "./internal/database.ts"
import { toTransportError } from "./internal/errors.ts"
import * as relay from "./internal/relay.ts"
import { PgSchema } from "./PgSchema.ts"
import * as PgTransport from "./PgTransport.ts"

/** Lives and dies with the savepoint that is open when it is set. */
const marker = "surety.savepoints"

const make = (db: Database): Outbox["Service"] => {
  const { sql } = db
  let savepoints = 0

  const surviving = (records: ReadonlyArray<OutgoingRecord>) => {
    if (records.every(({ savepoint }) => savepoint === undefined)) return Effect.succeed(records)
    return rows<{ markers: string | null }>(sql, "SELECT current_setting($1, true) AS markers", [marker]).pipe(
      Effect.mapError(toTransportError("outbox", records[0]!.topic.name)),
      Effect.map(([row]) => {
        const kept = new Set((row!.markers ?? "").split(","))
        return records.filter(({ savepoint }) => savepoint === undefined || kept.has(`${savepoint}`))
      })
    )
  }

  return {
    store: db,
    description: {
      layer: "PgOutbox.layer",
      promise: "what a handler publishes is inserted in its own transaction, and leaves if and only if that commits",
      gaps: [],
      assumptions: [],
      possible: []
    },
    carries: (transport) => Backend.publishStoreOf(transport) === db,
    savepoint: Effect.flatMap(Effect.serviceOption(sql.transactionService), (transaction) => {
      if (Option.isNone(transaction) || transaction.value[1] === 0) return Effect.undefined
      const savepoint = ++savepoints
      return rows(sql, "SELECT set_config($1, concat(current_setting($1, true), ',', $2::text), true)", [
        marker,
        `${savepoint}`
      ]).pipe(Effect.mapError(toTransportError("outbox", "*")), Effect.as(savepoint))
    }),
    write: (records) =>
      Effect.flatMap(surviving(records), (kept) =>
        Effect.forEach(
          // Those that are delayed have a transport of their own.
          Map.groupBy(kept, ({ transport }) => transport),
          ([transport, carried]) =>
            Effect.forEach(
              Map.groupBy(carried, ({ topic }) => topic.name).values(),
              (ofTopic) =>
                transport.publish(
                  ofTopic[0]!.topic,
                  ofTopic.map(({ record }): EncodedRecord => record)
                ),
              { discard: true }
            ),
          { discard: true }
        )
      )
  }
}

/**
 * The outbox.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Outbox, never, PgSchema> = Layer.effect(Outbox, Effect.map(PgSchema, make))

/**
 * Options of an outbox to another system.
 *
 * @category models
 * @since 0.1.0
 */
export interface RelayOptions {
  /**
   * Tells the outboxes of a schema apart: its records wait in the topic
   * `surety.outbox.NAME`, whose group `relay` sends them. All processes of one
   * outbox give it alike. Default: the name of the target, `kafka` say.
   */
  readonly name?: string | undefined
  /** How many processes can send at once; records of one key go through one shard. Fixed once the outbox exists. Default 8. */
  readonly shards?: number | undefined
  /** Whether this process sends, too; otherwise it publishes, and another one has to send. Default true. */
  readonly send?: boolean | undefined
}

/** The outboxes that this process has built, over each schema. */
const built = new WeakMap<object, Set<string>>()

const claimName = (db: object, name: string) =>
  Effect.acquireRelease(
    Effect.suspend(() => {
      const names = built.get(db) ?? new Set()
      built.set(db, names)
      if (names.has(name)) {
        const detail = `there are two outboxes "${name}" over one schema, and each would send the other's records to its own target; give one of them another name`
        return Effect.fail(new CompositionError({ guarantee: "an outbox", detail }))
      }
      return Effect.succeed(names.add(name))
    }),
    (names) => Effect.sync(() => names.delete(name))
  )

/**
 * A transport of another system behind an outbox in the database: what is
 * published joins the transaction of the app's client, or is committed on its
 * own, and a relay sends it on. Consuming is the other system's.
 *
 * **When to use**
 *
 * On a named channel, or in place of the other transport, so that an
 * exactly-once handler, or a `sql.withTransaction` of yours, can publish to a
 * topic of another system, and the message leaves if and only if it commits.
 *
 * **Details**
 *
 * A publish is acknowledged by the COMMIT. The relay sends records of one key in
 * their order, one sender per shard at a time, for as long as it takes: while
 * the target is down, they wait. What the target will never take (a record over
 * its limit, a topic of another partition count) becomes a dead letter of the group
 * `relay` of topic `surety.outbox.NAME`, and is redriven from there.
 * `Transport.progress` of the schema's own transport tells its lag.
 *
 * **Gotchas**
 *
 * The far side has each record at least once, under the same id: a sender that
 * ends, or loses its lease, may have sent what its successor sends again. Where
 * the target fences publishers (`Transport.fencedPublisher`), a zombie's late batch
 * is refused. Elsewhere it may arrive behind newer records of its keys. A
 * consumer with an inbox handles each once, in order, in both cases.
 *
 * **Example**
 *
 * ```ts
 * class Broker extends Channel.make("Broker") {}
 * const BrokerLive = AtLeastOnce.layer.pipe(
 *   Layer.provide(PgOutbox.layerRelay()),
 *   Layer.provide(KafkaTransport.layer({ acks: "all" })),
 *   Channel.on(Broker)
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerRelay = (
  options: RelayOptions = {}
): Layer.Layer<
  Transport | Acks.Acks | DelayedDelivery,
  CompositionError | ConsumeError,
  Transport | Acks.Acks | PgSchema
> =>
  Layer.effectContext(
    Effect.gen(function* () {
      const db = yield* PgSchema
      const target = yield* Transport
      // Only a target that acknowledges may be sent to.
      yield* Acks.Acks
      const name = options.name ?? target.characteristics.name
      yield* claimName(db, name)
      const waiting: TopicDeclaration = { name: relay.topicOf(name), partitions: options.shards ?? 8 }
      // Never the one that the app has built: the target may be made by the same layer, over another schema.
      const own = yield* Layer.build(Layer.fresh(AtLeastOnce.layer.pipe(Layer.provideMerge(PgTransport.layer))))
      const log = Context.get(own, Transport)
      const delayed = Context.get(own, DelayedDelivery)
      if (options.send !== false && !(yield* Backend.explaining)) {
        yield* relay.send(db, Context.get(own, AtLeastOnce), target, name, waiting.partitions)
      }
      const maxRecordBytes = Math.min(log.maxRecordBytes - relay.addedBytes, target.maxRecordBytes)
      /** Refused here and now, where the target would refuse it later. */
      const checked = (topic: TopicDeclaration, records: ReadonlyArray<EncodedRecord>) => {
        const total = Backend.totalBytes(records, maxRecordBytes)
        return typeof total === "number"
          ? Effect.succeed(records.map(relay.wrap(topic)))
          : Effect.fail(new TransportError({ operation: "publish", topic: topic.name, reason: total }))
      }
      const { characteristics } = target
      const transport = Transport.of({
        ...target,
        characteristics: {
          ...characteristics,
          layer: `PgOutbox.layerRelay over ${characteristics.layer}`,
          durable: `committed in PostgreSQL, then sent: ${characteristics.durable}`,
          order: `per key, in the order in which records were drawn; then ${characteristics.order}`,
          transactional: true,
          gaps: [...log.characteristics.gaps, ...characteristics.gaps],
          assumptions: [...log.characteristics.assumptions, ...characteristics.assumptions],
          anomalies: [
            ...characteristics.anomalies,
            target.fencedPublisher === undefined
              ? "a sender that ends or is frozen may send records again, also behind newer ones of their keys, under the same ids"
              : "a sender that ends may send records again, under the same ids",
            ...log.characteristics.anomalies
          ]
        },
        maxRecordBytes,
        publishStore: db,
        fencedPublisher: undefined,
        publish: (topic, records) =>
          Effect.flatMap(checked(topic, records), (wrapped) => log.publish(waiting, wrapped)),
        inTransaction: log.inTransaction,
        outsideTransaction: log.outsideTransaction,
        holdbacks: (topic) =>
          Effect.zipWith(
            log.holdbacks?.(waiting.name) ?? Effect.succeed([]),
            target.holdbacks?.(topic) ?? Effect.succeed([]),
            (here, there) => [...here, ...there]
          )
      })
      return Context.make(Transport, transport).pipe(
        Context.add(Acks.Acks, Context.get(own, Acks.Acks)),
        Context.add(
          DelayedDelivery,
          DelayedDelivery.of({
            store: db,
            publish: (topic, records, due) =>
              Effect.flatMap(checked(topic, records), (wrapped) => delayed.publish(waiting, wrapped, due))
          })
        )
      )
    })
  )
