/**
 * From what the layers say of themselves to what holds from end to end.
 *
 * A guarantee's links are the declaration of the topic, the transport, the
 * guarantee's layer and the parts of its transaction. It can lose a message if
 * one of them can, and repeat its effects if one of them can: the promise of
 * exactly-once is that of a layer of its own, which has no such gap where the
 * at-least-once delivery below it has.
 */
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Assumption, Flaw, Part, Retention } from "../../Description.ts"
import type { Derived, Explanation, Group, Producer, TopicExplanation, Unmet, WeakestLink } from "../../Explain.ts"
import * as Guarantee from "../../Guarantee.ts"
import type { Inbox } from "../../Inbox.ts"
import type * as Topic from "../../Topic.ts"
import type { Characteristics } from "../../Transport.ts"
import { rulesFor } from "../engine/failures.ts"
import type { Collector } from "./collector.ts"
import * as schedules from "./schedule.ts"

type Delivery = Guarantee.Delivery<Guarantee.Name>
type Registered = Collector["consumers"][number]
type Assumed = Assumption & { readonly link: string }

/** One topic, of one declaration, on one channel and one store. */
interface Subject {
  readonly topic: Topic.Any
  readonly delivery: Delivery
  readonly consumers: Array<Registered>
  published: boolean
}

export const derive = (collector: Collector): Effect.Effect<Explanation> =>
  Effect.map(Effect.forEach(subjectsOf(collector), explainTopic), (topics) => ({
    topics: topics.toSorted((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1))
  }))

/** As `check` and the text name a topic: `@` cannot be part of its name. */
export const nameOf = ({ channel, name }: Pick<TopicExplanation, "channel" | "name">): string =>
  channel === null ? name : `${name}@${channel}`

const subjectsOf = ({ consumers, published }: Collector): ReadonlyArray<Subject> => {
  const subjects: Array<Subject> = []
  const subjectOf = (topic: Topic.Any, delivery: Delivery): Subject => {
    const known = subjects.find(
      (subject) =>
        subject.topic.name === topic.name &&
        subject.topic.channel.channelName === topic.channel.channelName &&
        subject.topic.guarantee === topic.guarantee &&
        subject.delivery.transport.store === delivery.transport.store
    )
    if (known !== undefined) return known
    const subject: Subject = { topic, delivery, consumers: [], published: false }
    subjects.push(subject)
    return subject
  }
  for (const registered of consumers) {
    subjectOf(registered.consumer.topic, registered.delivery).consumers.push(registered)
  }
  for (const { delivery, topic } of published) subjectOf(topic, delivery).published = true
  return subjects
}

const explainTopic = Effect.fnUntraced(function* ({
  consumers,
  delivery,
  published,
  topic
}: Subject): Effect.fn.Return<TopicExplanation> {
  const { bounds, characteristics, maxRecordBytes } = delivery.transport
  const parts = partsOf(topic, delivery)
  // One that fails where its flaw is possible anyway changes nothing.
  const assumptions = assumptionsOf(parts).filter(({ otherwise }) => !allows(parts, otherwise))
  const groups = yield* Effect.forEach(consumers, (registered) =>
    // Its schedules may need what its layer was given.
    Effect.provideContext(groupOf(registered, characteristics), registered.context as Context.Context<any>)
  )
  const retention = delivery.unit?.inbox.retention
  const { crossProcess, durable, name, order, transactional } = characteristics
  return {
    name: topic.name,
    channel: topic.channel.channelName === "" ? null : topic.channel.channelName,
    partitions: topic.partitions,
    declared: topic.guarantee,
    derived: derivedOf(parts),
    promise: Guarantee.describe(delivery).promise,
    weakestLink: weakestOf(parts, assumptions, ["loss", "repetition"]),
    producer: yield* producerOf(topic, delivery, published),
    transport: {
      name,
      durable,
      order,
      crossProcess,
      transactional,
      lease: bounds === undefined ? null : limited(bounds.lease),
      maxRecordBytes
    },
    groups,
    retention: {
      messages: bounds === undefined ? null : retained(bounds.retention),
      settledIds: retention === undefined ? null : retained(retention)
    },
    parts,
    assumptions,
    possible: parts.flatMap(({ possible }) => possible)
  }
})

/** The links, from the publish to the effects. */
const partsOf = (topic: Topic.Any, delivery: Delivery): ReadonlyArray<Part> => {
  const { anomalies, assumptions, durable, gaps, layer, order } = delivery.transport.characteristics
  return [
    { layer, promise: `durable: ${durable}; order: ${order}`, gaps, assumptions, possible: anomalies },
    Guarantee.describe(delivery),
    ...(delivery.unit === undefined ? [] : [inboxOf(delivery.unit.inbox), delivery.unit.outbox.description]),
    ...declarationOf(topic, delivery)
  ]
}

/**
 * What comes again by itself is within an inbox's retention, or the layers are
 * refused; what the app publishes again need not be.
 */
const inboxOf = ({ description, retention }: Inbox["Service"]): Part =>
  retention === "forever"
    ? description
    : {
        ...description,
        assumptions: [
          ...description.assumptions,
          {
            holds: `the app publishes no message again once it is settled for ${Duration.format(retention)}`,
            known: "not checked",
            otherwise: "repetition",
            raisedBy: "an inbox that remembers forever"
          }
        ]
      }

/** What the declaration leaves to those who publish, where copies of a message are told by its id. */
const declarationOf = (topic: Topic.Any, delivery: Delivery): ReadonlyArray<Part> => {
  if (topic.guarantee !== "exactly-once") return []
  const generated: Assumption = {
    holds: "a publish that the app repeats is given the id of the first one",
    known: "not checked",
    otherwise: "repetition",
    raisedBy: "id on the topic, so that the payload says which copies are one message"
  }
  const foreign: Assumption = {
    holds: "no other program publishes a message twice without an id",
    known: "not checked",
    otherwise: "repetition",
    raisedBy: `CloudEvents headers in what it publishes, or foreign: "dead-letter" on the topic`
  }
  const assumptions = [
    ...(topic.id === undefined ? [generated] : []),
    ...(topic.foreign === "consume" ? [foreign] : [])
  ]
  const promise =
    topic.id === undefined
      ? "every publish is a message of its own, unless it is given an id"
      : "the payload says which copies are one message"
  return assumptions.length === 0 ? [] : [{ layer: "Topic.make", promise, gaps: [], assumptions, possible: [] }]
}

const certainty: ReadonlyArray<Assumption["known"]> = ["not checked", "configured", "checked at start", "read"]

/** Each assumption once, as the link that knows most about it tells it. */
const assumptionsOf = (parts: ReadonlyArray<Part>): ReadonlyArray<Assumed> => {
  const found = new Map<string, Assumed>()
  for (const { assumptions, layer } of parts) {
    for (const assumption of assumptions) {
      const other = found.get(assumption.holds)
      if (other === undefined || certainty.indexOf(assumption.known) > certainty.indexOf(other.known)) {
        found.set(assumption.holds, { link: layer, ...assumption })
      }
    }
  }
  return Array.from(found.values())
}

const allows = (parts: ReadonlyArray<Part>, flaw: Flaw): boolean =>
  parts.some(({ gaps }) => gaps.some((gap) => gap.allows === flaw))

const derivedOf = (parts: ReadonlyArray<Part>): Derived => {
  if (allows(parts, "loss")) return allows(parts, "repetition") ? "best-effort" : "at-most-once"
  return allows(parts, "repetition") ? "at-least-once" : "exactly-once"
}

const weakestOf = (
  parts: ReadonlyArray<Part>,
  assumptions: ReadonlyArray<Assumed>,
  flaws: ReadonlyArray<Flaw>
): WeakestLink | null => {
  for (const flaw of flaws) {
    for (const { gaps, layer } of parts) {
      const gap = gaps.find(({ allows }) => allows === flaw)
      if (gap !== undefined) {
        return { link: layer, allows: flaw, when: `when ${gap.when}`, assumed: false, raisedBy: gap.raisedBy }
      }
    }
  }
  for (const flaw of flaws) {
    const assumed = assumptions.find(({ known, otherwise }) => otherwise === flaw && known === "not checked")
    if (assumed !== undefined) {
      const { holds, link, raisedBy } = assumed
      return { link, allows: flaw, when: `unless ${holds}`, assumed: true, raisedBy }
    }
  }
  return null
}

const producerOf = Effect.fnUntraced(function* (
  topic: Topic.Any,
  { confirmation }: Delivery,
  here: boolean
): Effect.fn.Return<Producer> {
  return {
    here,
    id: topic.id === undefined ? "generated" : "payload",
    key: topic.key === undefined ? "none" : "payload",
    ackTimeout: confirmation === undefined ? null : Duration.toMillis(confirmation.acks.timeout),
    retries: confirmation === undefined ? null : yield* schedules.describe(confirmation.retry)
  }
})

const retained = (retention: Duration.Duration | "forever"): Retention =>
  retention === "forever" || !Duration.isFinite(retention) ? "forever" : { millis: Duration.toMillis(retention) }

const limited = (duration: Duration.Duration): number | null => {
  const millis = Duration.toMillis(duration)
  return Number.isFinite(millis) ? millis : null
}

const dispositions = { DeadLetter: "dead-letter", Discard: "discard", Stop: "stop" } as const

const groupOf = Effect.fnUntraced(function* (
  { consumer: { rules, settings, topic } }: Registered,
  { redelivery }: Characteristics
): Effect.fn.Return<Group, never, any> {
  const atMostOnce = topic.guarantee === "at-most-once"
  const tags = new Set(rules.flatMap((rule) => rule.tags ?? []))
  const others = rules.some((rule) => rule.tags === undefined)
  const failures = yield* Effect.forEach([...tags, ...(others ? [null] : [])], (tag) =>
    Effect.gen(function* () {
      const { disposition, retry } = rulesFor(rules, tag ?? undefined)
      return {
        tag,
        retries: retry === undefined ? null : yield* schedules.describe(retry.schedule),
        // None of a tag whose retries are declared for others alone: the engine dead-letters it.
        then: dispositions[disposition ?? "DeadLetter"]
      }
    })
  )
  const { restart } = settings
  return {
    name: settings.group,
    startFrom: settings.startFrom,
    concurrency: settings.concurrency,
    prefetch: settings.prefetch,
    batch: settings.batch ?? null,
    handlerTimeout: limited(settings.handlerTimeout),
    drainTimeout: limited(settings.drainTimeout),
    redeliverAfter: redelivery && !atMostOnce ? limited(settings.redeliverAfter) : null,
    maxCrashes: atMostOnce ? null : settings.maxCrashes,
    failures,
    defects: atMostOnce ? null : yield* schedules.describe(settings.defectRetry),
    restart: restart === undefined ? null : yield* schedules.describe(restart),
    possible: [
      ...(settings.startFrom === "latest"
        ? ["messages that were published before the group was registered are not handled"]
        : []),
      ...(restart === undefined ? ["a transport error that repeating cannot mend stops the group in this process"] : [])
    ]
  }
})

/** The flaws that a guarantee excludes. */
const excludes: { readonly [G in Guarantee.Name]: ReadonlyArray<Flaw> } = {
  "at-most-once": ["repetition"],
  "at-least-once": ["loss"],
  "exactly-once": ["loss", "repetition"],
  "exactly-once-kafka": ["loss", "repetition"]
}

export const unmet = (
  { topics }: Explanation,
  required: Readonly<Record<string, Guarantee.Name>> | undefined
): ReadonlyArray<Unmet> => {
  const wanted: ReadonlyArray<readonly [string, Guarantee.Name, ReadonlyArray<TopicExplanation>]> =
    required === undefined
      ? topics.map((topic) => [nameOf(topic), topic.declared, [topic]])
      : Object.entries(required).map(([name, guarantee]) => [
          name,
          guarantee,
          topics.filter((topic) => nameOf(topic) === name)
        ])
  return wanted.flatMap(([topic, guarantee, found]): ReadonlyArray<Unmet> => {
    if (found.length === 0) return [{ topic, required: guarantee, derived: null, weakestLink: null }]
    return found.flatMap(({ derived, parts }) => {
      const flaws = excludes[guarantee].filter((flaw) =>
        parts.some(({ gaps }) => gaps.some((gap) => gap.allows === flaw))
      )
      return flaws.length === 0
        ? []
        : [{ topic, required: guarantee, derived, weakestLink: weakestOf(parts, [], flaws) }]
    })
  })
}
