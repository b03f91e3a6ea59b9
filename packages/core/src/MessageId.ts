/**
 * Where message ids come from.
 *
 * A topic that names no `id` of its own gets one from here: made once, before
 * the first try to publish, so that every retry carries the same one.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as SecureRandom from "effect/crypto/SecureRandom"
import type * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

/** Drawn by the page: one call into the system's generator costs more than all the rest of an id. */
let page = new Uint8Array()
let used = 0

const randomBytes = (size: number): Uint8Array => {
  if (used + size > page.length) {
    page = Uint8Array.from(SecureRandom.randomBytesUnsafe(Math.max(4096, size)))
    used = 0
  }
  used += size
  // A copy: who is given it may change it.
  return page.slice(used - size, used)
}

const random = SecureRandom.make(randomBytes)

/**
 * Generates message ids: UUIDv7 by default, its time taken from Effect's
 * `Clock`. Replaceable, as in a simulation or a test that pins its ids.
 *
 * @category references
 * @since 0.1.0
 */
export const MessageId = Context.Reference<{ readonly next: Effect.Effect<string> }>("@surety/core/MessageId", {
  defaultValue: () => ({ next: random.uuidV7() })
})

/**
 * Replaces the generator of message ids.
 *
 * **Gotchas**
 *
 * Deduplication is by id: a generator that repeats one makes a message vanish
 * as a duplicate of another.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (next: Effect.Effect<string>): Layer.Layer<never> => Layer.succeed(MessageId, { next })
