/** Consumers whose runs are recorded. */
import * as Consumer from "@surety/core/Consumer"
import type { Envelope } from "@surety/core/Envelope"
import * as Producer from "@surety/core/Producer"
import type { Transaction } from "@surety/core/Transaction"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type * as History from "../../History.ts"
import type { Lab } from "./lab.ts"
import {
  type ConsumeOptions,
  contentOf,
  Failed,
  type Message,
  type Running,
  type TestNode,
  type TestTopic
} from "./model.ts"
import { recordPublish } from "./publishing.ts"

/** A consumer of a test. */
export interface Consuming extends Consumer.Running {
  /** Ends it in order. */
  readonly stop: Effect.Effect<void>
}

export const makeConsuming = (lab: Lab) => {
  const { groups, history, record } = lab
  let runs = 0
  /** What is to be recorded when a node ends in order. */
  const open = new Map<TestNode, Set<Effect.Effect<void>>>()

  const runOf = (node: TestNode, envelope: Envelope<Message>): History.Run => ({
    run: ++runs,
    node: node.name,
    topic: envelope.topic,
    group: envelope.group,
    id: envelope.id,
    key: envelope.key,
    partition: envelope.partition,
    offset: envelope.offset,
    attempt: envelope.attempt,
    epoch: envelope.epoch
  })

  const handlerOf =
    (node: TestNode, on: TestTopic, options: ConsumeOptions) => (payload: Message, envelope: Envelope<Message>) =>
      Effect.gen(function* () {
        // A process that has ended does nothing more.
        if (node.state === "crashed") return yield* Effect.never
        const run = runOf(node, envelope)
        const emit: Running["emit"] = (to, sent) =>
          Effect.suspend(() => {
            const call = history.next
            return node.run(Producer.publish(to, sent)).pipe(
              Effect.tap(({ state }) =>
                recordPublish(lab, node, to, [sent], state === "joined" ? { call, run: run.run } : { call }, "ok")
              ),
              Effect.mapError((error) => new Failed({ detail: error.message })),
              Effect.asVoid
            )
          })
        const apply = (step: number) =>
          on.guarantee === "exactly-once"
            ? Effect.andThen(
                lab.apply(node)({ topic: run.topic, group: run.group, id: run.id, run: run.run, step }),
                record(node, { _tag: "Apply", run: run.run, step })
              )
            : Effect.void
        yield* record(node, { ...run, _tag: "Start", content: contentOf(payload, envelope.headers) })
        yield* apply(1).pipe(
          Effect.andThen(options.handle?.({ ...run, message: payload, envelope, on: node, emit }) ?? Effect.void),
          Effect.andThen(apply(2)),
          Effect.onExit((exit) => {
            const outcome = Exit.isSuccess(exit)
              ? "ok"
              : Cause.hasInterruptsOnly(exit.cause) && options.interruptFails !== true
                ? "interrupt"
                : "fail"
            return record(node, { ...run, _tag: "End", outcome })
          })
        )
      }) as Effect.Effect<void, Failed, Transaction>

  const declare = (node: TestNode, from: TestTopic, options: ConsumeOptions) => {
    const { batch, group = "group", handle: _, interruptFails: __, rules: ___, ...settings } = options
    const handler = handlerOf(node, from, options)
    const common = { drainTimeout: "100 millis", ...settings, group } as const
    if (batch === undefined) return Consumer.make(from, { batchSize: 16, ...common, handler })
    const { maxSize, maxWait, taken } = batch
    return Consumer.makeBatch(from, {
      ...common,
      maxSize,
      maxWait,
      handler: (messages) =>
        Effect.andThen(
          Effect.sync(() => taken?.(messages.map(({ id }) => id))),
          Effect.forEach(messages, (envelope) => handler(envelope.payload, envelope), { discard: true })
        )
    })
  }

  /** Runs a consumer on a node until it is stopped, or its node ends. */
  const consume = Effect.fnUntraced(function* (
    node: TestNode,
    from: TestTopic,
    options: ConsumeOptions = {}
  ): Effect.fn.Return<Consuming> {
    const { batch, group = "group", rules } = options
    const declared = declare(node, from, options) as Consumer.Consumer<Message, Failed, any>
    const consumer = Consumer.orDeadLetter(rules === undefined ? declared : rules(declared))
    // It ends with its node, and before the node's services do.
    const own = yield* Scope.fork(lab.scopeOf(node))
    const place = { node: node.name, topic: from.name, group }
    yield* record(node, { _tag: "Join", ...place })
    const leave: Effect.Effect<void> = Effect.suspend(() =>
      open.get(node)?.delete(leave) === true ? record(node, { _tag: "Leave", ...place }) : Effect.void
    )
    open.set(node, (open.get(node) ?? new Set()).add(leave))
    const running = yield* Effect.orDie(
      Scope.provide(node.run(Consumer.start(consumer)), own) as Effect.Effect<Consumer.Running, unknown>
    )
    const name = JSON.stringify([from.name, group])
    if (!groups.has(name)) {
      groups.set(name, { topic: from, group })
      yield* history.record({
        _tag: "Register",
        topic: from.name,
        group,
        guarantee: from.guarantee,
        from: options.startFrom ?? "earliest",
        batchSize: batch?.maxSize ?? (from.guarantee === "exactly-once" ? (options.batchSize ?? 16) : 1),
        prefetch: options.prefetch ?? 128
      })
    }
    return { ...running, stop: Effect.andThen(lab.close(own, `consumer ${group} of ${node.name}`), leave) }
  })

  return {
    consume,
    /** All consumers of a node have ended in order. */
    left: (node: TestNode): Effect.Effect<void> =>
      Effect.suspend(() => Effect.forEach(Array.from(open.get(node) ?? []), (leave) => leave, { discard: true }))
  }
}
