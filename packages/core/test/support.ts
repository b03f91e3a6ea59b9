/** What the tests of core share: topics of text, consumers that run while a test looks on, and transports that misbehave. */
import {
  Acks,
  type ConsumeError,
  Consumer,
  DeadLetters,
  DelayedDelivery,
  type Envelope,
  type Guarantee,
  Inbox,
  MemoryStore,
  Outbox,
  Surety,
  Topic,
  Transport
} from "@surety/core"
import { Effect, Layer, Queue, Schema, Stream } from "effect"
import { make as makeDeadLetters } from "../src/internal/memory/deadLetters.ts"
import { make as makeDelayed } from "../src/internal/memory/delayed.ts"
import { make as makeInbox } from "../src/internal/memory/inbox.ts"
import { make as makeOutbox } from "../src/internal/memory/outbox.ts"
import { make as makeTransport } from "../src/internal/memory/transport.ts"

/** A message of a test: which one it is, and its key. */
export const Note = Schema.Struct({ id: Schema.String, key: Schema.optionalKey(Schema.String) })
export type Note = typeof Note.Type

export const note = (id: string, key?: string): Note => (key === undefined ? { id } : { id, key })

/** A topic of notes with one partition, so that offsets follow the order of publishing. */
export const notes = <const G extends Guarantee.Name>(guarantee: G, partitions = 1) =>
  Topic.make("notes", { schema: Note, guarantee, id: ({ id }) => id, key: ({ key }) => key, partitions })

export class Busy extends Schema.TaggedError<Busy>()("Busy", { wait: Schema.Number }) {}
export class Broken extends Schema.TaggedError<Broken>()("Broken", {}) {}

/** Runs the consumer while `body` runs; then it has drained, and what it has settled is stored. */
export const during = <A, R, B, E2, R2>(consumer: Consumer.Consumer<A, never, R>, body: Effect.Effect<B, E2, R2>) =>
  Effect.scoped(Effect.andThen(Layer.build(Consumer.layer(consumer)), body)) as Effect.Effect<
    B,
    E2 | ConsumeError,
    R | R2
  >

/** Takes as many events as there are expected ones. */
export const takeN = <A>(queue: Queue.Dequeue<A>, count: number): Effect.Effect<Array<A>> =>
  Effect.map(Effect.all(Array.from({ length: count }, () => Queue.take(queue))), (events) => events as Array<A>)

/** Lets every fiber that can run do so, until all of them wait: for an event, or for time. */
export const quiet: Effect.Effect<void> = Effect.repeat(Effect.yieldNow, { times: 200 }).pipe(Effect.asVoid)

/** How many messages the group has not settled, by partition. */
export const lag = (topic: string, group: string) =>
  Effect.flatMap(Transport.Transport, (transport) =>
    Effect.map(transport.progress(topic, group), (progress) => progress.reduce((sum, { lag }) => sum + lag, 0))
  )

export const letters = (filter?: DeadLetters.Filter) =>
  Effect.flatMap(DeadLetters.DeadLetters, (deadLetters) => Stream.runCollect(deadLetters.list(filter)))

/** What the handlers of a consumer saw, as `id#attempt`. */
export const seen = (envelope: Pick<Envelope.Envelope<unknown>, "id" | "attempt">) =>
  `${envelope.id}#${envelope.attempt}`

type Service = Transport.Transport["Service"]

/** The in-memory guarantees, over stores of which some operations are replaced. */
export const layerOver = (
  replace: (real: Service) => Partial<Service>,
  options: {
    readonly acks?: Parameters<typeof Acks.layer>[0]["timeout"]
    readonly inbox?: (real: Inbox.Inbox["Service"]) => Partial<Inbox.Inbox["Service"]>
    readonly outbox?: (real: Outbox.Outbox["Service"]) => Partial<Outbox.Outbox["Service"]>
  } = {}
) =>
  Surety.layer.pipe(
    Layer.provideMerge(
      Layer.mergeAll(
        Layer.effect(
          Transport.Transport,
          Effect.map(Transport.Transport, (real) => ({ ...real, ...replace(real) }))
        ).pipe(Layer.provide(Transport.layerMemory)),
        Acks.layer({ level: "all", timeout: options.acks ?? "5 seconds" }),
        Layer.effect(
          Inbox.Inbox,
          Effect.map(Inbox.Inbox, (real) => ({ ...real, ...options.inbox?.(real) }))
        ).pipe(Layer.provide(Inbox.layerMemory)),
        Layer.effect(
          Outbox.Outbox,
          Effect.map(Outbox.Outbox, (real) => ({ ...real, ...options.outbox?.(real) }))
        ).pipe(Layer.provide(Outbox.layerMemory)),
        DeadLetters.layerMemory
      )
    )
  )

/** The same assignments, some of whose operations are replaced. */
export const withAssignments =
  (replace: (assignment: Transport.Assignment) => Partial<Transport.Assignment>) =>
  (real: Service): Partial<Service> => ({
    subscribe: (options) =>
      Effect.map(real.subscribe(options), ({ next, ...rest }) => ({
        ...rest,
        next: Effect.map(next, (assignment) => ({ ...assignment, ...replace(assignment) }))
      }))
  })

/** One process of several on a store: once it is not alive, nothing that it does reaches the store. */
export const layerNode = (node: { alive: boolean }) =>
  Layer.fresh(
    Surety.layer.pipe(
      Layer.provideMerge(
        Layer.mergeAll(
          Layer.effect(Transport.Transport, makeTransport),
          Layer.effect(Inbox.Inbox, makeInbox),
          Layer.effect(Outbox.Outbox, makeOutbox),
          Layer.effect(DeadLetters.DeadLetters, makeDeadLetters),
          Layer.effect(DelayedDelivery.DelayedDelivery, makeDelayed),
          Acks.layer({ level: "all" })
        )
      ),
      Layer.provide(Layer.succeed(MemoryStore.Node, node))
    )
  )
