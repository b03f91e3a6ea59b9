/**
 * What travels with a payload, and the encoded records that transports store.
 *
 * @since 0.1.0
 */

/**
 * Headers of a message: any Unicode names and values.
 *
 * @category models
 * @since 0.1.0
 */
export type Headers = Readonly<Record<string, string>>

/**
 * A message as its handler sees it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Envelope<out A> {
  readonly topic: string
  readonly group: string
  /** The deduplication id: the same at every hop and on every delivery. */
  readonly id: string
  /** Messages of one key are handled in publish order; those without one, in any. */
  readonly key: string | undefined
  readonly headers: Headers
  /** When it was published, in milliseconds since the epoch, by the publisher's clock. */
  readonly time: number
  readonly partition: number
  readonly offset: number
  /** 1 for the first attempt; one more for each later claim, also after a crash. */
  readonly attempt: number
  /**
   * The fencing token of the lease under which this attempt runs: a later
   * holder of the partition has a greater one. Hand it to stores of your own
   * that should refuse a paused worker's late writes.
   */
  readonly epoch: number
  readonly payload: A
}

/**
 * A record as a producer hands it to a transport.
 *
 * @category models
 * @since 0.1.0
 */
export interface EncodedRecord {
  /** Empty where another program has published it, and the transport knows none: consumers tell who it is. */
  readonly id: string
  readonly key: string | undefined
  readonly headers: Headers
  readonly time: number
  readonly payload: Uint8Array
}

/**
 * A record as a transport hands it to the consumer engine.
 *
 * @category models
 * @since 0.1.0
 */
export interface StoredRecord extends EncodedRecord {
  readonly partition: number
  readonly offset: number
}

/**
 * The header that names the media type of the payload.
 *
 * @category headers
 * @since 0.1.0
 */
export const contentTypeHeader = "content-type"

/**
 * The header that names the version of the topic's schema, where it is not the
 * first one.
 *
 * @category headers
 * @since 0.1.0
 */
export const schemaVersionHeader = "schema-version"
