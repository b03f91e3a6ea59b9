/**
 * The input: deliveries made of the payloads that GitHub documents, and what
 * must come of them. A function of the seed alone, so that the truth is known
 * before anything is sent.
 */
import { createHash } from "node:crypto"
import events from "@octokit/webhooks-examples" with { type: "json" }
import { Predicate, Schema } from "effect"

export interface Delivery {
  /** `X-GitHub-Delivery`: the same each time that GitHub sends it. */
  readonly id: string
  readonly event: string
  /** The repository, organization or account that it is about. */
  readonly subject: string
  /** Whether its body is one that the topic's schema refuses. */
  readonly poison: boolean
  readonly body: () => Uint8Array
}

/** One step of the sender: a delivery, sent so many times at the same moment. */
export interface Step {
  readonly delivery: Delivery
  readonly copies: 1 | 2
}

/** What must have come of the deliveries, once all of them have been accepted. */
export interface Truth {
  readonly deliveries: ReadonlyMap<string, Delivery>
  /** Deliveries by subject and event. */
  readonly counters: ReadonlyMap<string, number>
}

const Payload = Schema.Record(Schema.String, Schema.Unknown)
type Payload = typeof Payload.Type

const payloads = Schema.decodeUnknownSync(
  Schema.Array(Schema.Struct({ name: Schema.String, examples: Schema.Array(Payload) }))
)(events).flatMap(({ examples, name }) => examples.map((payload) => ({ event: name, payload })))

/** How many payloads, of how many kinds of events, GitHub documents. */
export const documented = { payloads: payloads.length, events: new Set(payloads.map(({ event }) => event)).size }

/** A whole number below `limit` that depends on nothing but its arguments. */
const draw = (limit: number, ...seed: ReadonlyArray<string | number>): number =>
  createHash("sha256").update(seed.join("/")).digest().readUInt32BE() % limit

const uuid = (...seed: ReadonlyArray<string | number>): string => {
  const hex = createHash("sha256").update(seed.join("/")).digest("hex")
  const variant = "89ab"[draw(4, ...seed)]
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20, 32)}`
}

/**
 * The documented payloads name few repositories. Each is given many siblings,
 * as if many repositories had the webhook: `Codertocat/Hello-World-17`.
 */
const siblings = 32

const rename = (payload: Payload, suffix: string): readonly [subject: string, payload: Payload] => {
  for (const [field, name] of [
    ["repository", "full_name"],
    ["organization", "login"],
    ["sender", "login"]
  ] as const) {
    const owner = payload[field]
    if (Predicate.hasProperty(owner, name)) {
      const subject = `${owner[name]}${suffix}`
      return [subject, { ...payload, [field]: { ...owner, [name]: subject } }]
    }
  }
  return ["github", payload]
}

/** Bodies that are JSON, and signed, but not what the schema expects. */
const poisons: ReadonlyArray<(payload: Payload) => unknown> = [
  (payload) => ({ ...payload, repository: null }),
  (payload) => ({ ...payload, sender: { login: 42 } }),
  (payload) => [payload]
]

export const make = (count: number, seed = "surety"): ReadonlyArray<Delivery> =>
  Array.from({ length: count }, (_, index): Delivery => {
    const { event, payload } = payloads[index % payloads.length]!
    const [subject, renamed] = rename(payload, `-${draw(siblings, seed, index, "sibling")}`)
    // One in a hundred, and the last of all, so that there always is one.
    const poison = (index > 0 && index === count - 1) || draw(100, seed, index, "poison") === 0
    const content = poison ? poisons[draw(poisons.length, seed, index, "kind")]!(renamed) : renamed
    const body = () => new TextEncoder().encode(JSON.stringify(content))
    return { id: uuid(seed, index), event, subject, poison, body }
  })

/** In what order they are sent: a fifth of them twice, half of those at the same moment, the others later. */
export const plan = (deliveries: ReadonlyArray<Delivery>, seed = "surety"): ReadonlyArray<Step> => {
  const again = deliveries
    .map((delivery, index) => ({ delivery, index, rank: draw(2 ** 32, seed, index, "again") }))
    .sort((a, b) => a.rank - b.rank)
    .slice(0, Math.ceil(deliveries.length / 5))
  const together = new Set(again.slice(0, again.length >> 1).map(({ index }) => index))
  const steps = deliveries.map(
    (delivery, index) => ({ at: index, delivery, copies: together.has(index) ? 2 : 1 }) as const
  )
  const later = again
    .filter(({ index }) => !together.has(index))
    .map(({ delivery, index }) => ({
      at: index + 1 + draw(deliveries.length - index, seed, index, "later"),
      delivery,
      copies: 1 as const
    }))
  return [...steps, ...later].sort((a, b) => a.at - b.at)
}

export const counterKey = (subject: string, event: string): string => `${subject} ${event}`

export const truth = (deliveries: ReadonlyArray<Delivery>): Truth => {
  const counters = new Map<string, number>()
  for (const { event, poison, subject } of deliveries) {
    const key = counterKey(subject, event)
    if (!poison) counters.set(key, (counters.get(key) ?? 0) + 1)
  }
  return { deliveries: new Map(deliveries.map((delivery) => [delivery.id, delivery])), counters }
}
