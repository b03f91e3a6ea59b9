/**
 * All guarantees on one PostgreSQL database, in one line.
 *
 * @since 0.1.0
 */
import type * as PgClient from "@effect/sql-pg/PgClient"
import type { Acks } from "@surety/core/Acks"
import type { DeadLetters } from "@surety/core/DeadLetters"
import type { DelayedDelivery } from "@surety/core/DelayedDelivery"
import type { AtLeastOnce, AtMostOnce, CompositionError, ExactlyOnce } from "@surety/core/Guarantee"
import type { Inbox } from "@surety/core/Inbox"
import type { Outbox } from "@surety/core/Outbox"
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
  AtMostOnce | AtLeastOnce | ExactlyOnce | Transport | Acks | DelayedDelivery | Inbox | Outbox | DeadLetters,
  PgSchemaError | CompositionError | TransportError,
  PgClient.PgClient
> =>
  Surety.layer.pipe(
    Layer.provideMerge(Layer.mergeAll(PgTransport.layer, PgInbox.layer, PgOutbox.layer, PgDeadLetters.layer)),
    Layer.provide(PgSchema.layerWith(options))
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
