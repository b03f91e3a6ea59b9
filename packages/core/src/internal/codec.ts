/** Payloads to bytes and back: the topic's schema, then the codec. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import type { Codec } from "../Codec.ts"

interface Compiled {
  readonly encode: (value: unknown) => Effect.Effect<unknown, unknown, any>
  readonly decode: (value: unknown) => Effect.Effect<unknown, unknown, any>
}

const compiled = new WeakMap<object, Compiled>()

const compile = (schema: Schema.Constraint): Compiled => {
  let found = compiled.get(schema)
  if (found === undefined) {
    const json = Schema.toCodecJson(schema)
    found = {
      encode: Schema.encodeUnknownEffect(json) as Compiled["encode"],
      decode: Schema.decodeUnknownEffect(json) as Compiled["decode"]
    }
    compiled.set(schema, found)
  }
  return found
}

/**
 * Fails with whatever the schema or the codec raised or threw. An `Exit` already
 * where the schema needs no more than the value.
 */
export const encodePayload = <S extends Schema.Constraint>(
  codec: Codec,
  schema: S,
  payload: S["Type"]
): Effect.Effect<Uint8Array, unknown, S["EncodingServices"]> =>
  eagerly(() => Effect.mapEager(compile(schema).encode(payload), codec.encode))

/** The way back, in the same manner. */
export const decodePayload = <S extends Schema.Constraint>(
  codec: Codec,
  schema: S,
  bytes: Uint8Array
): Effect.Effect<S["Type"], unknown, S["DecodingServices"]> =>
  eagerly(() => compile(schema).decode(codec.decode(bytes)))

const eagerly = <A, R>(step: () => Effect.Effect<A, unknown, R>): Effect.Effect<A, unknown, R> => {
  try {
    const effect = step()
    return Exit.isExit(effect) && Exit.isSuccess(effect) ? effect : Effect.catchDefect(effect, Effect.fail)
  } catch (cause) {
    return Exit.fail(cause)
  }
}
