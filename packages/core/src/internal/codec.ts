/** Payloads to bytes and back: the topic's schema, then the codec. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { CurrentCodec } from "../Codec.ts"

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

/** Fails with whatever the schema or the codec raised or threw. */
export const encodePayload = <S extends Schema.Constraint>(
  schema: S,
  payload: S["Type"]
): Effect.Effect<{ readonly bytes: Uint8Array; readonly contentType: string }, unknown, S["EncodingServices"]> =>
  Effect.flatMap(CurrentCodec, (codec) =>
    Effect.map(compile(schema).encode(payload), (value) => ({
      bytes: codec.encode(value),
      contentType: codec.contentType
    }))
  ).pipe(Effect.catchDefect(Effect.fail))

/** Fails with whatever the codec or the schema raised or threw. */
export const decodePayload = <S extends Schema.Constraint>(
  schema: S,
  bytes: Uint8Array
): Effect.Effect<S["Type"], unknown, S["DecodingServices"]> =>
  Effect.flatMap(CurrentCodec, (codec) => compile(schema).decode(codec.decode(bytes))).pipe(
    Effect.catchDefect(Effect.fail)
  )
