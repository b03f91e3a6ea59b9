/**
 * All guarantees on one PostgreSQL database, in one line.
 *
 * @since 0.1.0
 */
import type * as PgClient from "@effect/sql-pg/PgClient"
import type { Acks } from "@surety/core/Acks"
import type { ConsumeError } from "@surety/core/ConsumeError"
import type { CompositionError } from "@surety/core/Guarantee"
import * as Surety from "@surety/core/Surety"
import type { Transport } from "@surety/core/Transport"
import type { TransportError } from "@surety/core/TransportError"
import * as Layer from "effect/Layer"
import * as PgDeadLetters from "./PgDeadLetters.ts"
import * as PgInbox from "./PgInbox.ts"
import * as PgOutbox from "./PgOutbox.ts"
import * as PgSchema from "./PgSchema.ts"
import type { PgSchemaError } from "./PgSchemaError.ts"
import * as PgTransport from "./PgTransport.ts"

/**
 * All guarantees over one schema, with options.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (
  options: PgSchema.Options
): Layer.Layer<
  Surety.Services | PgSchema.PgSchema,
  PgSchemaError | CompositionError | TransportError,
  PgClient.PgClient
> =>
  Surety.layer.pipe(
    Layer.provideMerge(Layer.mergeAll(PgTransport.layer, PgInbox.layer, PgOutbox.layer, PgDeadLetters.layer)),
    Layer.provideMerge(PgSchema.layerWith(options))
  )

/**
 * All guarantees over the schema `surety`, which is migrated when the layer is
 * built.
 *
 * **Example**
 *
 * ```ts
 * const Live = Consumers.pipe(
 *   Layer.provide(SuretyPg.layer),
 *   Layer.provide(PgClient.layerConfig({ url: Config.Redacted("DATABASE_URL") }))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = layerWith({})

/**
 * All guarantees over a transport of another system and a schema: what is
 * published goes through the outbox and its relay, and exactly-once consumers
 * settle in the database.
 *
 * **Details**
 *
 * The dead letters are those of exactly-once consumers, and of the relay. At
 * least once, a message's dead letter is where its transport keeps it.
 *
 * **Example**
 *
 * ```ts
 * class Broker extends Channel.make("Broker") {}
 * const Live = SuretyPg.layerAcross().pipe(
 *   Layer.provide(KafkaTransport.layer({ acks: "all" })),
 *   Channel.on(Broker),
 *   Layer.provideMerge(SuretyPg.layer)
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerAcross = (
  options?: PgOutbox.RelayOptions
): Layer.Layer<
  Surety.Services,
  CompositionError | ConsumeError | TransportError,
  Transport | Acks | PgSchema.PgSchema
> =>
  Surety.layer.pipe(
    Layer.provideMerge(Layer.mergeAll(PgOutbox.layerRelay(options), PgInbox.layer, PgOutbox.layer, PgDeadLetters.layer))
  )
