/** What a publisher says of each entry, on a line: that it tries, and how that ended. */
import { Schema } from "effect"

export const Line = Schema.Tuple([
  Schema.Literals(["attempt", "acknowledged", "failed", "unknown"]),
  Schema.Int,
  Schema.Int
])
export type Line = typeof Line.Type
const LineJson = Schema.fromJsonString(Line)

export const encode = Schema.encodeSync(LineJson)
export const decode = Schema.decodeUnknownOption(LineJson)

/** The accounts of a publisher, and the number of the next entry of each. */
export const Assignment = Schema.fromJsonString(Schema.Array(Schema.Tuple([Schema.Int, Schema.Int])))
