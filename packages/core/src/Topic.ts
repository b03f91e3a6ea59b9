/**
 * Topics: what is published and consumed, and the guarantee that it needs.
 *
 * @since 0.1.0
 */
import { type Pipeable, Prototype } from "effect/Pipeable"
import type * as Schema from "effect/Schema"
import * as Channel from "./Channel.ts"
import type * as Guarantee from "./Guarantee.ts"
import type { TopicDeclaration } from "./Transport.ts"

const TypeId = "~@surety/core/Topic"

/**
 * A named stream of messages of one schema, with the guarantee that its
 * messages need, on a channel.
 *
 * @category models
 * @since 0.1.0
 */
export interface Topic<in out S extends Schema.Constraint, out G extends Guarantee.Name, out C = Channel.Default>
  extends Pipeable {
  readonly [TypeId]: typeof TypeId
  readonly name: string
  readonly schema: S
  readonly guarantee: G
  readonly channel: Channel.ChannelClass<C>
  readonly partitions: number
  readonly version: number
  readonly older: Readonly<Record<number, Schema.Decoder<S["Type"]>>>
  readonly foreign: Foreign
  readonly id: ((payload: S["Type"]) => string) | undefined
  readonly key: ((payload: S["Type"]) => string | undefined) | undefined
}

/**
 * Any topic.
 *
 * @category models
 * @since 0.1.0
 */
export type Any = Topic<any, Guarantee.Name, any>

/**
 * What becomes of a message without an id, which another program has published.
 *
 * @category models
 * @since 0.1.0
 */
export type Foreign = "consume" | "dead-letter"

/**
 * How a topic is declared.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<S extends Schema.Constraint, G extends Guarantee.Name, C> {
  /** Encodes and decodes payloads, at both edges. */
  readonly schema: S
  /** What publishing and consuming require: `at-most-once`, `at-least-once`, `exactly-once` or `exactly-once-kafka`. */
  readonly guarantee: G
  /** The deduplication id of a payload. Default: a new `MessageId` for each publish. */
  readonly id?: ((payload: S["Type"]) => string) | undefined
  /** Messages of one key are handled in publish order. Default: no key, no order. */
  readonly key?: ((payload: S["Type"]) => string | undefined) | undefined
  /** How many partitions the log has, from 1 to 1,024. Default 8. Fixed once the topic exists. */
  readonly partitions?: number | undefined
  /**
   * The version of `schema`, a whole number from 1. Default 1. Count it up when
   * payloads change in a way that consumers of the former version cannot decode.
   */
  readonly version?: number | undefined
  /**
   * How messages of earlier versions decode, by version: a schema of what was
   * encoded then, transformed to the type of now.
   *
   * A message of a version that is not known, such as one that a newer producer
   * has published, goes to the dead letters: redrive it once the consumer is
   * newer.
   */
  readonly older?: Readonly<Record<number, Schema.Decoder<S["Type"]>>> | undefined
  /**
   * What becomes of messages that another program has published without an id:
   * those that are CloudEvents have one, made of their `source` and `id`.
   *
   * - `dead-letter`, the default: they are kept whole in the dead letters, since
   *   copies of them could not be told.
   * - `consume`: their id is `topic/partition/offset`, whatever {@link id} says.
   *   It is the same on every delivery; a copy that is published again is a
   *   message of its own.
   */
  readonly foreign?: Foreign | undefined
  /** The channel on which its guarantee is provided. Default: the unnamed one. */
  readonly channel?: Channel.ChannelClass<C> | undefined
}

/**
 * Declares a topic. Pure: it exists in a transport once something publishes to
 * it or consumes it.
 *
 * **Details**
 *
 * A name has 1 to 200 characters from `A-Z a-z 0-9 . _ -`. What is invalid is
 * refused with a typed error by the first publish, and when a consumer's layer
 * is built.
 *
 * **Example**
 *
 * ```ts
 * const Payments = Topic.make("payments", {
 *   schema: Payment,
 *   guarantee: "exactly-once",
 *   id: (payment) => payment.id,
 *   key: (payment) => payment.account
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <S extends Schema.Constraint, const G extends Guarantee.Name, C = Channel.Default>(
  name: string,
  options: Options<S, G, C>
): Topic<S, G, C> =>
  Object.assign(Object.create(Prototype), {
    [TypeId]: TypeId,
    name,
    schema: options.schema,
    guarantee: options.guarantee,
    channel: options.channel ?? Channel.Default,
    partitions: options.partitions ?? 8,
    version: options.version ?? 1,
    older: options.older ?? {},
    foreign: options.foreign ?? "dead-letter",
    id: options.id,
    key: options.key
  })

/**
 * What a transport needs to know of the topic.
 *
 * @category accessors
 * @since 0.1.0
 */
export const declaration = (topic: Any): TopicDeclaration => ({ name: topic.name, partitions: topic.partitions })
