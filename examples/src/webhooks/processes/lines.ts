/** What the child processes tell their parent: a line of JSON each, on standard output. */
import { Console, Effect, Schema } from "effect"

export const Line = Schema.Union([
  Schema.TaggedStruct("Listening", { port: Schema.Int }),
  /** The effects of a delivery are committed, so many milliseconds after its request arrived. */
  Schema.TaggedStruct("Committed", { millis: Schema.Finite })
])
export type Line = typeof Line.Type

const LineJson = Schema.fromJsonString(Line)

const encode = Schema.encodeSync(LineJson)

export const tell = (line: Line): Effect.Effect<void> => Effect.suspend(() => Console.log(encode(line)))

export const decode = Schema.decodeUnknownEffect(LineJson)
