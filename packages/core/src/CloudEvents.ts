/**
 * CloudEvents 1.0, in binary mode: the attributes of an event as headers beside
 * its payload, so that consumers of other systems know what they see.
 *
 * Messages carry them where {@link layer} says so. Names are those of the Kafka
 * protocol binding (`ce_id`, `ce_type`, …); the media type of the payload is in
 * `content-type`, as always.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type { Envelope, Headers } from "./Envelope.ts"

/**
 * Where events come from, and what they are called.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** A URI reference that names the producer: `/orders`, `https://example.com/orders`. Together with the id it is unique. */
  readonly source: string
  /** The type of the events of a topic: `com.example.orders`. Default: the topic's name. */
  readonly type?: ((topic: string) => string) | undefined
}

/**
 * The attributes that messages are published with: none unless a layer says so.
 *
 * @category references
 * @since 0.1.0
 */
export const CurrentCloudEvents = Context.Reference<Options | undefined>("@surety/core/CloudEvents", {
  defaultValue: () => undefined
})

/**
 * Adds the attributes to every message that is published under this layer: id,
 * source, type, time, and the message's key as `partitionkey`. Headers that are
 * given with a message win.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<never> => Layer.succeed(CurrentCloudEvents, options)

/**
 * The headers of a message as an event.
 *
 * @category headers
 * @since 0.1.0
 */
export const toHeaders = (
  options: Options,
  message: {
    readonly topic: string
    readonly id: string
    readonly key: string | undefined
    readonly time: number
  }
): Headers => ({
  ce_specversion: "1.0",
  ce_id: message.id,
  ce_source: options.source,
  ce_type: options.type?.(message.topic) ?? message.topic,
  ce_time: new Date(message.time).toISOString(),
  ...(message.key === undefined ? {} : { ce_partitionkey: message.key })
})

/**
 * The attributes of an event.
 *
 * @category models
 * @since 0.1.0
 */
export interface Attributes {
  readonly id: string
  readonly source: string
  readonly type: string
  readonly time: string | undefined
  readonly subject: string | undefined
  /** The other attributes, by name. */
  readonly extensions: Readonly<Record<string, string>>
}

const prefix = "ce_"

/**
 * The attributes of a message that was published as a CloudEvent, by whomever.
 * None when a required one is missing, or the version is not 1.x.
 *
 * @category accessors
 * @since 0.1.0
 */
export const attributes = ({ headers }: Pick<Envelope<unknown>, "headers">): Option.Option<Attributes> => {
  const {
    ce_id: id,
    ce_source: source,
    ce_specversion: version,
    ce_subject: subject,
    ce_time: time,
    ce_type: type
  } = headers
  if (!id || !source || !type || version === undefined || !/^1\.\d+$/.test(version)) return Option.none()
  const known = new Set(["ce_id", "ce_source", "ce_specversion", "ce_subject", "ce_time", "ce_type"])
  const extensions = Object.fromEntries(
    Object.entries(headers)
      .filter(([name]) => name.startsWith(prefix) && !known.has(name))
      .map(([name, value]) => [name.slice(prefix.length), value])
  )
  return Option.some({ id, source, type, time, subject, extensions })
}
