/** Publishing, with how it ended recorded. */

import { DelayedDelivery } from "@surety/core/DelayedDelivery"
import type { Headers } from "@surety/core/Envelope"
import * as Inbox from "@surety/core/Inbox"
import * as Producer from "@surety/core/Producer"
import type { PublishError } from "@surety/core/PublishError"
import * as Transport from "@surety/core/Transport"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Lab } from "./lab.ts"
import { contentOf, type Message, type TestNode, type TestTopic, uniqueName } from "./model.ts"

export const recordPublish = (
  { record }: Pick<Lab, "record">,
  node: TestNode,
  to: TestTopic,
  sent: ReadonlyArray<Message>,
  options: { readonly call: number; readonly run?: number; readonly headers?: Headers | undefined },
  outcome: "ok" | "fail" | "info"
) =>
  Effect.forEach(
    sent,
    (each, index) =>
      record(node, {
        _tag: "Publish",
        outcome,
        node: node.name,
        topic: to.name,
        id: each.id,
        key: each.key ?? undefined,
        call: options.call,
        index,
        run: options.run,
        content: contentOf(each, options.headers ?? {})
      }),
    { discard: true }
  )

/** How a publish ended, by its answer. */
export const outcomeOf = (exit: Exit.Exit<unknown, PublishError>): "ok" | "fail" | "info" => {
  if (Exit.isSuccess(exit)) return "ok"
  const error = Cause.findErrorOption(exit.cause)
  return error._tag === "Some" && error.value.reason._tag !== "MaybeSent" ? "fail" : "info"
}

export const makePublishing = (lab: Pick<Lab, "history" | "record">, skip: (reason: string) => never) => {
  const { history } = lab
  const recorded =
    (node: TestNode, to: TestTopic, sent: ReadonlyArray<Message>, headers?: Headers) =>
    <A, R>(publish: Effect.Effect<A, PublishError, R>): Effect.Effect<A, PublishError, R> =>
      Effect.suspend(() => {
        const call = history.next
        return Effect.onExit(publish, (exit) => recordPublish(lab, node, to, sent, { call, headers }, outcomeOf(exit)))
      })

  return {
    /** Publishes together. */
    publish: (
      node: TestNode,
      to: TestTopic,
      sent: ReadonlyArray<Message>,
      headers?: Headers
    ): Effect.Effect<ReadonlyArray<Producer.Receipt>, PublishError> =>
      node
        .run(Producer.publishAll(to, sent, headers === undefined ? {} : { headers }))
        .pipe(recorded(node, to, sent, headers)),

    /** Publishes what is to be delivered later; skips the test where the backend has no delayed delivery. */
    publishLater: (node: TestNode, to: TestTopic, sent: ReadonlyArray<Message>, delay: Duration.Input) =>
      Effect.gen(function* () {
        const delayed = Context.getOption(node.context as Context.Context<never>, DelayedDelivery)
        if (delayed._tag === "None") {
          const { characteristics } = yield* node.run(Transport.Transport)
          return skip(`the ${characteristics.name} transport delivers nothing later`)
        }
        yield* node
          .run(Producer.publishAll(to, sent, { delay }))
          .pipe(Effect.provideService(DelayedDelivery, delayed.value), recorded(node, to, sent))
      }),

    /**
     * Publishes in a transaction of the store, which `body` keeps open; what is
     * recorded is how the transaction ended.
     */
    publishIn: <A, E>(node: TestNode, to: TestTopic, sent: ReadonlyArray<Message>, body: Effect.Effect<A, E>) =>
      Effect.gen(function* () {
        const transport = yield* Transport.Transport
        const inbox = yield* Inbox.Inbox
        const declaration = { name: uniqueName("scratch"), partitions: 1 }
        const subscription = yield* transport.subscribe({ topic: declaration, group: "scratch", startFrom: "earliest" })
        const { epoch, partition } = yield* subscription.next
        const call = history.next
        return yield* inbox
          .transaction(
            { topic: declaration.name, group: "scratch", partition, epoch },
            Effect.andThen(Producer.publishAll(to, sent), body)
          )
          .pipe(
            Effect.onExit((exit) => recordPublish(lab, node, to, sent, { call }, Exit.isSuccess(exit) ? "ok" : "fail"))
          )
      }).pipe(Effect.scoped, node.run)
  }
}
