/** One attempt of one message. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import { type Envelope, schemaVersionHeader } from "../../Envelope.ts"
import { decodePayload } from "../codec.ts"
import { isAnonymous } from "../foreign.ts"
import * as trace from "../trace.ts"
import type { Context } from "./context.ts"
import type { Item } from "./keyedQueue.ts"

/** A payload that does not decode: dead-lettered without an attempt. */
export class DecodeFailed extends Error {
  readonly _tag = "DecodeFailed"
  constructor(cause: unknown) {
    super("the payload does not decode with the topic's codec and schema", { cause })
  }
}

/** A payload of a version that the topic does not know: dead-lettered without an attempt. */
export class UnknownVersion extends Error {
  readonly _tag = "UnknownVersion"
  constructor(version: string, current: number) {
    super(
      Number(version) > current
        ? `the message has version ${version} of the topic's schema, and this consumer knows versions up to ${current}; deploy a newer one, and redrive it`
        : `the message has version ${JSON.stringify(version)} of the topic's schema, and the topic does not say how that decodes; add it to "older", and redrive it`
    )
  }
}

/** A message without an id, of which the topic does not say that it is to be consumed: dead-lettered without an attempt. */
export class MissingId extends Error {
  readonly _tag = "MissingId"
  constructor() {
    super(
      `the message has no id: another program has published it, and not as a CloudEvent; declare the topic with foreign: "consume", and redrive it`
    )
  }
}

/** Why a message is dead-lettered without an attempt. */
export type Undecoded = DecodeFailed | UnknownVersion | MissingId

/** A handler that took longer than its consumer allows. */
export class HandlerTimeout extends Error {
  readonly _tag = "HandlerTimeout"
  constructor(timeout: Duration.Duration) {
    super(`the handler took longer than its handlerTimeout of ${Duration.format(timeout)}`)
  }
}

/** A message whose process ended again and again while it was handled. */
export class Crashed extends Error {
  readonly _tag = "Crashed"
  constructor(crashes: number) {
    super(`the process ended ${crashes} times while this message was being handled`)
  }
}

export const decode = (
  { codec, consumer: { topic } }: Context,
  { record }: Item
): Effect.Effect<unknown, Undecoded, any> => {
  if (topic.foreign === "dead-letter" && isAnonymous(topic.name, record)) return Effect.fail(new MissingId())
  const version = record.headers[schemaVersionHeader] ?? "1"
  const schema: Schema.Constraint | undefined =
    version === `${topic.version}`
      ? topic.schema
      : Object.hasOwn(topic.older, version)
        ? topic.older[Number(version)]
        : undefined
  return schema === undefined
    ? Effect.fail(new UnknownVersion(version, topic.version))
    : Effect.mapErrorEager(decodePayload(codec, schema, record.payload), (cause) => new DecodeFailed(cause))
}

/** Runs the handler for messages: one, or those of a batch. */
export const runHandler = (
  { around, consumer, delivery, observer }: Context,
  items: ReadonlyArray<Item>,
  payloads: ReadonlyArray<unknown>,
  epoch: number
): Effect.Effect<unknown, unknown, any> => {
  const { handlerTimeout } = consumer.settings
  const envelopes = items.map(
    ({ attempt, record }, index): Envelope<unknown> => ({
      topic: consumer.topic.name,
      group: consumer.settings.group,
      id: record.id,
      key: record.key,
      headers: record.headers,
      time: record.time,
      partition: record.partition,
      offset: record.offset,
      attempt,
      epoch,
      payload: payloads[index]
    })
  )
  const given = around === undefined ? undefined : { consumer, envelopes, records: items.map(({ record }) => record) }
  return Effect.suspend(() => {
    for (const item of items) observer.tellOf("Started", item, epoch)
    const handling = consumer.handler(envelopes)
    return given === undefined ? handling : around!.handler(given, handling)
  }).pipe(
    Effect.timeoutOrElse({
      duration: handlerTimeout,
      orElse: () => Effect.die(new HandlerTimeout(handlerTimeout))
    }),
    Effect.scoped,
    (effect) => (given === undefined ? effect : around!.run(given, effect)),
    trace.processing(delivery.transport.characteristics.name, envelopes),
    (effect) => observer.running(effect)
  )
}
