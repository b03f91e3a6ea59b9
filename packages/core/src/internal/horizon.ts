/**
 * The deduplication horizon (POSTGRES.md, rule 22): how late a message that was
 * settled may come again, and whether the inbox remembers it for so long.
 */
import * as Duration from "effect/Duration"
import type { Confirmation } from "../Guarantee.ts"
import type { Inbox } from "../Inbox.ts"
import type { Transport } from "../Transport.ts"

interface Bound {
  readonly what: string
  /** Undefined: there is none. */
  readonly lasts: Duration.Duration | undefined
  /** Where there is none: what to do. */
  readonly missing: string
}

const finite = (duration: Duration.Duration | "forever" | undefined): Duration.Duration | undefined =>
  duration === undefined || duration === "forever" || !Duration.isFinite(duration) ? undefined : duration

/** Why an inbox forgets too early for its source, or undefined when it does not. */
export const tooEarly = (
  { retention, store: ours }: Inbox["Service"],
  { bounds, characteristics, store }: Transport["Service"],
  { acks, repeatsFor }: Confirmation
): string | undefined => {
  if (retention === "forever") return undefined
  const { name } = characteristics
  const undeclared = `the ${name} transport declares no bounds`
  const list: ReadonlyArray<Bound> = [
    {
      what: `retention of the ${name} transport's log, from which a message can be read again`,
      lasts: finite(bounds?.retention),
      missing: bounds === undefined ? undeclared : `the ${name} transport's log is kept forever, and can be read again`
    },
    {
      what: "lease, after which a silent worker's messages come again",
      lasts: finite(bounds?.lease),
      missing: undeclared
    },
    {
      what: "repeats of a publish, and the last one's acknowledgement",
      lasts: repeatsFor && finite(Duration.sum(repeatsFor, acks.timeout)),
      missing: "AtLeastOnce.layerWith was given a retry without repeatsFor, so that a publish may be repeated forever"
    }
  ]
  const remembers = `the inbox remembers for ${Duration.format(retention)} what was settled`
  const missing = Array.from(new Set(list.flatMap(({ lasts, missing }) => (lasts === undefined ? [missing] : []))))
  // Our own store keeps what a group that lags behind its log has settled meanwhile; of another one's log it knows too little.
  if (store !== ours) missing.push(`a message may wait in the ${name} transport for as long as its group lags`)
  if (missing.length > 0) {
    return `${remembers}, and nothing bounds how late a message may come again: ${missing.join("; ")}. Bound it, or let the inbox remember forever`
  }
  const total = list.reduce((sum, { lasts }) => Duration.sum(sum, lasts!), Duration.zero)
  if (Duration.isGreaterThanOrEqualTo(retention, total)) return undefined
  const figures = list.map(({ lasts, what }) => `${Duration.format(lasts!)} (${what})`).join(" + ")
  return `${remembers}, and a message may come again ${Duration.format(total)} later: ${figures}. Let the inbox remember for at least so long, or forever, or lower the others`
}
