/**
 * How an encoded payload becomes bytes.
 *
 * A topic's `Schema` encodes a value to a JSON-compatible one; the codec writes
 * that as bytes. JSON is the default; another one is a layer.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"

/**
 * A reversible mapping between JSON-compatible values and bytes. Both
 * directions may throw: what is thrown becomes the cause of a typed encoding or
 * decoding failure.
 *
 * @category models
 * @since 0.1.0
 */
export interface Codec {
  /** The media type that is stored beside each message, e.g. `application/json`. */
  readonly contentType: string
  readonly encode: (value: unknown) => Uint8Array
  readonly decode: (bytes: Uint8Array) => unknown
}

const encoder = new TextEncoder()
const decoder = new TextDecoder("utf-8", { fatal: true })

/**
 * UTF-8 JSON. Malformed UTF-8 and malformed JSON fail to decode.
 *
 * @category codecs
 * @since 0.1.0
 */
export const json: Codec = {
  contentType: "application/json",
  encode: (value) => {
    const text: string | undefined = JSON.stringify(value)
    if (text === undefined) throw new TypeError(`JSON has no form for a value of type ${typeof value}`)
    return encoder.encode(text)
  },
  decode: (bytes) => JSON.parse(decoder.decode(bytes))
}

/**
 * The codec in use: {@link json} unless a layer says otherwise.
 *
 * @category references
 * @since 0.1.0
 */
export const CurrentCodec = Context.Reference<Codec>("@surety/core/Codec", { defaultValue: () => json })

/**
 * Uses another codec for every topic published and consumed under this layer.
 *
 * **Gotchas**
 *
 * Producers and consumers of a topic must agree: a message that does not decode
 * goes to the dead letters.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (codec: Codec): Layer.Layer<never> => Layer.succeed(CurrentCodec, codec)
