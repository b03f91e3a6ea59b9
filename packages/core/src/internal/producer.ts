import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import { publishStoreOf } from "../Backend.ts"
import * as Channel from "../Channel.ts"
import { CurrentCloudEvents, toHeaders } from "../CloudEvents.ts"
import { CurrentCodec } from "../Codec.ts"
import { DelayedDelivery, type Due } from "../DelayedDelivery.ts"
import { contentTypeHeader, type EncodedRecord, type Headers, schemaVersionHeader } from "../Envelope.ts"
import * as Guarantee from "../Guarantee.ts"
import { Interference } from "../Interference.ts"
import { MessageId } from "../MessageId.ts"
import type * as Producer from "../Producer.ts"
import {
  EncodeFailed,
  Invalid,
  MaybeSent,
  NotCarried,
  NotSent,
  PublishError,
  type PublishErrorReason,
  UnitEnded
} from "../PublishError.ts"
import * as Topic from "../Topic.ts"
import type { Transport } from "../Transport.ts"
import { OutcomeUnknown, TransportError } from "../TransportError.ts"
import { encodePayload } from "./codec.ts"
import { CurrentCollector } from "./explain/collector.ts"
import * as metrics from "./metrics.ts"
import { invalidName, invalidPartitions, invalidText, invalidVersions } from "./names.ts"
import { retryTransport } from "./retry.ts"
import * as trace from "./trace.ts"
import { CurrentUnit, type Unit } from "./unit.ts"

/** Of whatever delay: what it requires then is in the types of `Producer`. */
type Options = Producer.Options<Duration.Input | undefined, Producer.Moment | undefined>

/** What every publish to a topic needs, and none changes. */
const ofTopic = (topic: Topic.Any) => ({
  declaration: Topic.declaration(topic),
  published: metrics.publishedOf(topic.name),
  invalid:
    invalidName("topic", topic.name) ??
    invalidPartitions(topic.partitions) ??
    invalidVersions(topic.version, topic.older)
})

const topics = new WeakMap<Topic.Any, ReturnType<typeof ofTopic>>()

const known = (topic: Topic.Any): ReturnType<typeof ofTopic> => {
  let found = topics.get(topic)
  if (found === undefined) {
    found = ofTopic(topic)
    topics.set(topic, found)
  }
  return found
}

export const publish = <S extends Schema.Constraint, G extends Guarantee.Name, C>(
  topic: Topic.Topic<S, G, C>,
  payloads: ReadonlyArray<S["Type"]>,
  options: Options | undefined
): Effect.Effect<ReadonlyArray<Producer.Receipt>, PublishError, Guarantee.Required<G, C> | S["EncodingServices"]> =>
  Effect.flatMap(Guarantee.required(topic), (guaranteed) =>
    trace.publishing(guaranteed.transport.characteristics.name, topic.name, payloads.length, (context) =>
      publishBy(guaranteed, topic, payloads, options, context)
    )
  )

const publishBy = Effect.fnUntraced(function* <S extends Schema.Constraint>(
  guaranteed: Guarantee.Delivery<Guarantee.Name>,
  topic: Topic.Topic<S, Guarantee.Name, any>,
  payloads: ReadonlyArray<S["Type"]>,
  options: Options | undefined,
  context: Context.Context<never>
): Effect.fn.Return<ReadonlyArray<Producer.Receipt>, PublishError, S["EncodingServices"]> {
  const { published } = known(topic)
  const records = yield* encode(topic, payloads, options, context)
  if (records.length === 0) return []
  const collector = Context.get(context, CurrentCollector)
  if (collector !== undefined) {
    collector.published.push({ topic, delivery: guaranteed })
    return records.map(({ id }) => ({ id, state: "joined" as const }))
  }
  const delivery = options === undefined ? guaranteed : yield* later(guaranteed, topic, records, options)
  const around = Context.get(context, Interference)
  const handing = handOver(delivery, topic, records, Context.get(context, CurrentUnit))
  const state = yield* around === undefined ? handing : around.publish(topic.name, records, handing)
  published.updateUnsafe(records.length, context)
  return records.map(({ id }) => ({ id, state }))
})

/** Gives records to the transport, or to the transaction that the calling fiber is in. */
const handOver = Effect.fnUntraced(function* (
  delivery: Guarantee.Delivery<Guarantee.Name>,
  topic: Topic.Any,
  records: ReadonlyArray<EncodedRecord>,
  unit: Unit | undefined
): Effect.fn.Return<Producer.Receipt["state"], PublishError> {
  if (unit !== undefined) {
    yield* keepBack(unit, delivery, topic, records)
    return "joined"
  }
  if (yield* delivery.transport.inTransaction) {
    yield* Effect.mapError(delivery.transport.publish(known(topic).declaration, records), (cause) =>
      error(topic, records, new NotSent({ cause }))
    )
    return "joined"
  }
  yield* send(delivery, topic, records)
  return "stored"
})

/** The greatest time that a `Date` holds. */
const maxMillis = 8.64e15

/** When messages are due, or why that cannot be told. */
const dueOf = ({ delay, deliverAt }: Options): Due | undefined | string => {
  if (delay !== undefined && deliverAt !== undefined) return "both delay and deliverAt are given; choose one"
  if (delay !== undefined) {
    const millis = Option.map(Duration.fromInput(delay), Duration.toMillis)
    // Half, so that no clock to which it is added leads beyond.
    if (Option.isSome(millis) && millis.value <= maxMillis / 2)
      return { _tag: "After", millis: Math.max(0, millis.value) }
    return `the delay of ${String(delay)} is no finite duration`
  }
  if (deliverAt === undefined) return undefined
  const millis = Option.map(DateTime.make(deliverAt), DateTime.toEpochMillis)
  if (Option.isSome(millis) && Math.abs(millis.value) <= maxMillis) return { _tag: "At", millis: millis.value }
  return `deliverAt is ${String(deliverAt)}, which is no time`
}

/** The same delivery, but for what it publishes, which is delayed. */
const later = Effect.fnUntraced(function* (
  delivery: Guarantee.Delivery<Guarantee.Name>,
  topic: Topic.Any,
  records: ReadonlyArray<EncodedRecord>,
  options: Options
): Effect.fn.Return<Guarantee.Delivery<Guarantee.Name>, PublishError> {
  const due = dueOf(options)
  if (due === undefined) return delivery
  if (typeof due === "string") return yield* error(topic, records, new Invalid({ detail: due }))
  const delayed = yield* Effect.service(Channel.key(DelayedDelivery, topic.channel)) as Effect.Effect<
    DelayedDelivery["Service"]
  >
  if (delayed.store !== publishStoreOf(delivery.transport)) {
    const detail = `DelayedDelivery is of another store than the ${delivery.transport.characteristics.name} transport of the topic's guarantee; build both by one layer`
    return yield* error(topic, records, new Invalid({ detail }))
  }
  const transport: Transport["Service"] = {
    ...delivery.transport,
    publish: (declaration, published) => delayed.publish(declaration, published, due)
  }
  return { ...delivery, transport }
})

const error = (topic: Topic.Any, records: ReadonlyArray<{ readonly id: string }>, reason: PublishErrorReason) =>
  new PublishError({ topic: topic.name, ids: records.map(({ id }) => id), reason })

/** All of them, or none: what is the same for each is looked up once. */
const encode = Effect.fnUntraced(function* <S extends Schema.Constraint>(
  topic: Topic.Topic<S, Guarantee.Name, any>,
  payloads: ReadonlyArray<S["Type"]>,
  options: Options | undefined,
  context: Context.Context<never>
): Effect.fn.Return<ReadonlyArray<EncodedRecord>, PublishError, S["EncodingServices"]> {
  const messageId = Context.get(context, MessageId)
  const codec = Context.get(context, CurrentCodec)
  const clock = Context.get(context, Clock.Clock)
  const cloudEvents = Context.get(context, CurrentCloudEvents)
  const invalidOfAll = known(topic).invalid ?? invalidHeaders(options?.headers)
  const common: Headers = {
    [contentTypeHeader]: codec.contentType,
    ...(topic.version === 1 ? {} : { [schemaVersionHeader]: `${topic.version}` }),
    ...trace.contextHeaders(context)
  }
  const headers: Headers = { ...common, ...options?.headers }
  const records: Array<EncodedRecord> = []
  for (const payload of payloads) {
    const id = options?.id ?? topic.id?.(payload) ?? (yield* messageId.next)
    const key = options?.key ?? topic.key?.(payload)
    const invalid =
      invalidOfAll ??
      (id === "" ? "the id is empty" : invalidText("id", id)) ??
      (key === undefined ? undefined : invalidText("key", key))
    if (invalid !== undefined) return yield* error(topic, [{ id }], new Invalid({ detail: invalid }))
    const bytes = yield* Effect.mapErrorEager(encodePayload(codec, topic.schema, payload), (cause) =>
      error(topic, [{ id }], new EncodeFailed({ cause }))
    )
    const time = clock.currentTimeMillisUnsafe()
    records.push({
      id,
      key,
      headers:
        cloudEvents === undefined
          ? headers
          : { ...common, ...toHeaders(cloudEvents, { topic: topic.name, id, key, time }), ...options?.headers },
      time,
      payload: bytes
    })
  }
  return records
})

const invalidHeaders = (headers: Headers = {}): string | undefined => {
  for (const [name, value] of Object.entries(headers)) {
    const invalid = invalidText("name of a header", name) ?? invalidText(`header ${JSON.stringify(name)}`, value)
    if (invalid !== undefined) return invalid
  }
  return undefined
}

/** Invariants 2 and 8: nothing that a handler publishes leaves before its transaction commits. */
const keepBack = Effect.fnUntraced(function* (
  unit: Unit,
  { confirmation, transport }: Guarantee.Delivery<Guarantee.Name>,
  topic: Topic.Any,
  records: ReadonlyArray<EncodedRecord>
) {
  if (unit.ended) return yield* error(topic, records, new UnitEnded())
  const { declaration } = known(topic)
  if (confirmation === undefined) {
    for (const record of records) unit.afterCommit.push({ transport, topic: declaration, record })
    return
  }
  if (!unit.outbox.carries(transport)) {
    return yield* error(topic, records, new NotCarried({ transport: transport.characteristics.name }))
  }
  const savepoint = yield* Effect.mapError(unit.outbox.savepoint, (cause) =>
    error(topic, records, new NotSent({ cause }))
  )
  for (const record of records) unit.outgoing.push({ transport, topic: declaration, record, savepoint })
})

const send = (
  { confirmation, transport }: Guarantee.Delivery<Guarantee.Name>,
  topic: Topic.Any,
  records: ReadonlyArray<EncodedRecord>
): Effect.Effect<void, PublishError> =>
  Effect.suspend(() => {
    const once = transport.publish(known(topic).declaration, records)
    // Once one try may have stored the records, a later refusal cannot make it certain that none did.
    let maybe = false
    const tried =
      confirmation === undefined
        ? once
        : retryTransport(
            once.pipe(
              Effect.timeoutOrElse({
                duration: confirmation.acks.timeout,
                orElse: () => Effect.fail(ackTimeout(topic, confirmation.acks.timeout))
              }),
              Effect.tapError(({ reason }) =>
                Effect.sync(() => {
                  maybe ||= reason._tag === "OutcomeUnknown"
                })
              )
            ),
            confirmation.retry
          )
    return Effect.mapError(tried, (cause) =>
      error(
        topic,
        records,
        maybe || cause.reason._tag === "OutcomeUnknown" ? new MaybeSent({ cause }) : new NotSent({ cause })
      )
    )
  })

const ackTimeout = (topic: Topic.Any, timeout: Duration.Duration) =>
  new TransportError({
    operation: "publish",
    topic: topic.name,
    reason: new OutcomeUnknown({ detail: `no acknowledgement within ${Duration.format(timeout)}` })
  })
