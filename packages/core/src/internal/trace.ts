/** Spans, by OpenTelemetry's conventions for messaging, where a tracer is installed. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Headers from "effect/http/Headers"
import * as HttpTraceContext from "effect/http/HttpTraceContext"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"
import type { Envelope } from "../Envelope.ts"

const header = "traceparent"
/** Where a CloudEvent has it that was published by a program which knows no other one. */
const ofCloudEvent = "ce_traceparent"

/** Whether anything but memory would see a span. */
const isTraced = (context: Context.Context<never>): boolean =>
  Context.get(context, Tracer.Tracer) !== Tracer.nativeTracer

const attributes = (system: string, operation: string, topic: string) => ({
  "messaging.system": system,
  "messaging.operation.name": operation,
  "messaging.destination.name": topic
})

/** A publish, which is given the context that it is done in. */
export const publishing = <A, E, R>(
  system: string,
  topic: string,
  count: number,
  publish: (context: Context.Context<never>) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.contextWith((context: Context.Context<never>) =>
    isTraced(context)
      ? Effect.withSpan(Effect.contextWith(publish), `publish ${topic}`, {
          kind: "producer",
          attributes: { ...attributes(system, "publish", topic), "messaging.batch.message_count": count }
        })
      : publish(context)
  )

/** The headers that carry the current span, where it is traced. */
export const contextHeaders = (context: Context.Context<never>): Readonly<Record<string, string>> => {
  const span = Context.getOption(context, Tracer.ParentSpan)
  const value =
    isTraced(context) && Option.isSome(span) && span.value._tag === "Span"
      ? HttpTraceContext.toHeaders(span.value)[header]
      : undefined
  return value === undefined ? {} : { [header]: value }
}

/** One attempt, of a message or of a batch, linked to the publishes that it comes from. */
export const processing =
  (system: string, messages: ReadonlyArray<Envelope<unknown>>) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.contextWith((context: Context.Context<never>) => {
      const [first] = messages
      if (first === undefined || !isTraced(context)) return effect
      const { attempt, group, id, offset, partition, topic } = first
      return Effect.withSpan(effect, `process ${topic}`, {
        kind: "consumer",
        root: true,
        links: messages.flatMap(({ headers }) => {
          const producer = HttpTraceContext.w3c(
            Headers.fromInput({ [header]: headers[header] ?? headers[ofCloudEvent] })
          )
          return Option.isSome(producer) ? [{ span: producer.value, attributes: {} }] : []
        }),
        attributes: {
          ...attributes(system, "process", topic),
          "messaging.consumer.group.name": group,
          "messaging.destination.partition.id": `${partition}`,
          ...(messages.length > 1
            ? { "messaging.batch.message_count": messages.length }
            : { "messaging.message.id": id, "surety.offset": offset, "surety.attempt": attempt })
        }
      })
    })
