/** What one test of the suite works with: nodes, topics, recorded consumers, and waiting. */
import * as Backend from "@surety/core/Backend"
import * as Consumer from "@surety/core/Consumer"
import * as DeadLetters from "@surety/core/DeadLetters"
import { contentTypeHeader, type Envelope, type Headers } from "@surety/core/Envelope"
import type * as Guarantee from "@surety/core/Guarantee"
import * as Inbox from "@surety/core/Inbox"
import * as Producer from "@surety/core/Producer"
import type { PublishError } from "@surety/core/PublishError"
import * as Topic from "@surety/core/Topic"
import type { Transaction } from "@surety/core/Transaction"
import * as Transport from "@surety/core/Transport"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as History from "../../History.ts"
import type * as TransportTest from "../../TransportTest.ts"
import {
  type ConsumeOptions,
  Failed,
  Message,
  messages,
  NeverHappened,
  type Running,
  type TestNode,
  type TestTopic,
  uniqueName,
  Violated
} from "./model.ts"

const contentOf = ({ body, id, key }: Message, headers: Headers): string =>
  JSON.stringify([
    id,
    key,
    body,
    Object.entries(headers)
      .filter(([name]) => name !== contentTypeHeader)
      .sort(([a], [b]) => (a < b ? -1 : 1))
  ])

const decodeMessage = Schema.decodeUnknownOption(Schema.fromJsonString(Message))

export interface Harness extends Effect.Success<ReturnType<typeof make>> {}

export const make = Effect.fnUntraced(function* <R>(
  backend: TransportTest.Backend<R>,
  /** Ends the test as a skipped one. */
  skip: (reason: string) => never
) {
  const services = yield* Effect.context<R>()
  const scope = yield* Effect.scope
  const history = History.make()
  const nodes: Array<TestNode> = []
  const scopes = new Map<TestNode, Scope.Scope>()
  const applies = new Map<TestNode, TransportTest.Node["apply"]>()
  const groups = new Map<string, { readonly topic: TestTopic; readonly group: string }>()
  let runs = 0

  const attempts = backend.time === "virtual" ? 20_000 : 1_500
  /** Lets a little time pass; under a virtual clock after everything that needs none. */
  const tick = backend.time === "virtual" ? TestClock.adjust("50 millis") : Effect.void
  const polling = backend.time === "virtual" ? Schedule.forever : Schedule.spaced("20 millis")

  /** Lets go on what needs no time, such as what runs after a commit in memory. */
  const quiet = backend.time === "virtual" ? Effect.repeat(Effect.yieldNow, { times: 100 }) : Effect.void

  /** Waits for a condition, for so long that only a failure can need longer. */
  const until = <E, R2>(what: string, holds: Effect.Effect<boolean, E, R2>): Effect.Effect<void, E, R2> => {
    let tries = 0
    return Effect.flatMap(holds, (now) => {
      if (now) return Effect.succeed(true)
      return ++tries < attempts
        ? Effect.as(tick, false)
        : Effect.andThen(
            Effect.exit(observe),
            Effect.suspend(() => Effect.die(new NeverHappened(what, history.events)))
          )
    }).pipe(Effect.repeat({ until: (done) => done, schedule: polling }), Effect.asVoid)
  }

  /** Waits until the history satisfies a condition. */
  const seen = (what: string, holds: (history: History.History) => boolean): Effect.Effect<void> =>
    until(
      what,
      Effect.sync(() => holds(history.events))
    )

  /** Waits until so many runs have ended well. */
  const handled = (count: number, topic: TestTopic, group = "group"): Effect.Effect<void> =>
    seen(
      `${count} handled`,
      (events) =>
        new Set(
          events.flatMap((event) =>
            event._tag === "End" && event.outcome === "ok" && event.topic === topic.name && event.group === group
              ? [event.id]
              : []
          )
        ).size >= count
    )

  /** Closes a scope whose finalizers may take time. */
  const close = (closing: Scope.Closeable, what: string) =>
    Effect.gen(function* () {
      const fiber = yield* Effect.forkDetach(Scope.close(closing, Exit.void))
      yield* until(
        `${what} ends`,
        Effect.sync(() => fiber.pollUnsafe() !== undefined)
      )
    })

  /** Starts a process on the store. */
  const start = Effect.gen(function* () {
    const name = `node-${nodes.length + 1}`
    const own = Scope.makeUnsafe()
    const built = yield* backend.node(name).pipe(Scope.provide(own), Effect.provideContext(services))
    const ending = (state: "crashed" | "stopped") =>
      Effect.suspend(() => {
        if (node.state === "crashed" || node.state === "stopped") return Effect.void
        node.state = state
        return Effect.asVoid(Effect.forkDetach(close(own, name)))
      })
    const node: TestNode = {
      name,
      context: built.services,
      state: "up",
      crash: Effect.gen(function* () {
        yield* history.record({ _tag: "Crash", node: name })
        yield* built.disconnect("lost")
        yield* ending("crashed")
      }).pipe(Effect.uninterruptible),
      disconnect: (how) =>
        Effect.gen(function* () {
          yield* history.record({ _tag: "Disconnect", node: name })
          node.state = "cut off"
          yield* built.disconnect(how)
        }).pipe(Effect.uninterruptible),
      reconnect: Effect.gen(function* () {
        yield* built.reconnect
        node.state = "up"
        yield* history.record({ _tag: "Reconnect", node: name })
      }).pipe(Effect.uninterruptible),
      stop: Effect.suspend(() => {
        node.state = "stopped"
        return close(own, name)
      }),
      run: (effect) => Effect.provideContext(effect, built.services),
      keep: (effect) => Scope.provide(Effect.provideContext(effect, built.services), own)
    }
    applies.set(node, built.apply)
    scopes.set(node, own)
    nodes.push(node)
    yield* Scope.addFinalizer(scope, close(own, name))
    return node
  })

  /** What a process that has ended does is not seen by anybody. */
  const record = (node: TestNode, fact: History.Fact) =>
    node.state === "crashed" ? Effect.void : Effect.asVoid(history.record(fact))

  const topic = <G extends Guarantee.Name>(
    guarantee: G,
    options?: { readonly partitions?: number }
  ): Topic.Topic<typeof Message, G> =>
    Topic.make(uniqueName("topic"), {
      schema: Message,
      guarantee,
      id: ({ id }) => id,
      key: ({ key }) => key ?? undefined,
      partitions: options?.partitions ?? 4
    })

  const recordPublish = (
    node: TestNode,
    to: TestTopic,
    sent: ReadonlyArray<Message>,
    options: { readonly call: number; readonly run?: number; readonly headers?: Headers },
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

  const outcomeOf = (exit: Exit.Exit<unknown, PublishError>): "ok" | "fail" | "info" => {
    if (Exit.isSuccess(exit)) return "ok"
    const error = Cause.findErrorOption(exit.cause)
    return error._tag === "Some" && error.value.reason._tag !== "MaybeSent" ? "fail" : "info"
  }

  /** Publishes together, and records how it ended. */
  const publish = (
    node: TestNode,
    to: TestTopic,
    sent: ReadonlyArray<Message>,
    headers?: Headers
  ): Effect.Effect<ReadonlyArray<Producer.Receipt>, PublishError> =>
    Effect.suspend(() => {
      const call = history.next
      return node
        .run(Producer.publishAll(to, sent, headers === undefined ? {} : { headers }))
        .pipe(
          Effect.onExit((exit) =>
            recordPublish(node, to, sent, { call, ...(headers === undefined ? {} : { headers }) }, outcomeOf(exit))
          )
        )
    })

  /**
   * Publishes in a transaction of the store, which `body` keeps open; what is
   * recorded is how the transaction ended.
   */
  const publishIn = <A, E>(node: TestNode, to: TestTopic, sent: ReadonlyArray<Message>, body: Effect.Effect<A, E>) =>
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
        .pipe(Effect.onExit((exit) => recordPublish(node, to, sent, { call }, Exit.isSuccess(exit) ? "ok" : "fail")))
    }).pipe(Effect.scoped, node.run)

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
                recordPublish(node, to, [sent], state === "joined" ? { call, run: run.run } : { call }, "ok")
              ),
              Effect.mapError((error) => new Failed({ detail: error.message })),
              Effect.asVoid
            )
          })
        const apply = (step: number) =>
          on.guarantee === "exactly-once"
            ? Effect.andThen(
                applies.get(node)!({ topic: run.topic, group: run.group, id: run.id, run: run.run, step }),
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

  /** Runs a consumer on a node until it is stopped, or its node ends. */
  const consume = Effect.fnUntraced(function* (node: TestNode, from: TestTopic, options: ConsumeOptions = {}) {
    const { group = "group", handle: _, rules, interruptFails: __, ...settings } = options
    const declared = Consumer.make(from, {
      batchSize: 16,
      drainTimeout: "100 millis",
      ...settings,
      group,
      handler: handlerOf(node, from, options)
    })
    const consumer = Consumer.orDeadLetter(rules === undefined ? declared : rules(declared))
    // It ends with its node, and before the node's services do.
    const own = yield* Scope.fork(scopes.get(node)!)
    yield* Effect.orDie(node.run(Layer.buildWithScope(Consumer.layer(consumer), own)))
    const name = JSON.stringify([from.name, group])
    if (!groups.has(name)) {
      groups.set(name, { topic: from, group })
      yield* history.record({
        _tag: "Register",
        topic: from.name,
        group,
        guarantee: from.guarantee,
        from: settings.startFrom ?? "earliest",
        batchSize: from.guarantee === "exactly-once" ? (settings.batchSize ?? 16) : 1
      })
    }
    return { stop: close(own, `consumer ${group} of ${node.name}`) }
  })

  /** A node through which the store can be read. */
  const reader = Effect.suspend(() => {
    const up = nodes.find(({ state }) => state === "up")
    return up === undefined ? start : Effect.succeed(up)
  })

  const progress = (of: TestTopic, group = "group") =>
    Effect.flatMap(reader, (node) =>
      node.run(Effect.flatMap(Transport.Transport, (transport) => transport.progress(of.name, group)))
    )

  const deadLetters = (of: TestTopic, group = "group") =>
    Effect.flatMap(reader, (node) =>
      node.run(
        Effect.flatMap(DeadLetters.DeadLetters, ({ list }) => Stream.runCollect(list({ topic: of.name, group })))
      )
    )

  /** Waits until a group has settled everything that can be read. */
  const settled = (of: TestTopic, group = "group") =>
    until(
      `group ${group} of ${of.name} has settled everything`,
      Effect.map(progress(of, group), (partitions) => partitions.every(({ lag }) => lag === 0))
    )

  /** Publishes, over all partitions, until a node has handled something: it has its share then. */
  const reached = (node: TestNode, of: TestTopic) => {
    const publishMore = Effect.flatMap(reader, (from) => publish(from, of, messages(8, 8, uniqueName("more"))))
    return until(
      `${node.name} has its share`,
      Effect.map(publishMore, () =>
        history.events.some((event) => event._tag === "Start" && event.node === node.name && event.topic === of.name)
      )
    )
  }

  /** Waits until everything is settled. Returns how many messages were published by then. */
  const quiesce = (of: TestTopic, group = "group") =>
    Effect.map(
      settled(of, group),
      () => history.events.filter((event) => event._tag === "Publish" && event.topic === of.name).length
    )

  /** Waits until nothing is going on, adds what the store holds, and checks every invariant. */
  const verify = Effect.gen(function* () {
    // Handlers publish to other topics: two rounds see what the first one's end has left.
    for (let round = 0; round < 2; round++) {
      for (const { group, topic } of groups.values()) yield* settled(topic, group)
      yield* until(
        "no handler runs",
        Effect.sync(() => {
          const alive = new Set(
            nodes.filter(({ state }) => state === "up" || state === "cut off").map(({ name }) => name)
          )
          const ended = new Set(history.events.flatMap((event) => (event._tag === "End" ? [event.run] : [])))
          return history.events.every(
            (event) => event._tag !== "Start" || !alive.has(event.node) || ended.has(event.run)
          )
        })
      )
    }
    yield* quiet
    yield* observe
    const violations = History.check(history.events)
    if (violations.length > 0) return yield* Effect.die(new Violated(violations, history.events))
    return history.events
  })

  /** Adds to the history what the store holds. */
  const observe = Effect.gen(function* () {
    for (const { group, topic } of groups.values()) {
      for (const letter of yield* deadLetters(topic, group)) {
        const decoded = decodeMessage(new TextDecoder().decode(letter.record.payload))
        yield* history.record({
          _tag: "DeadLetter",
          topic: letter.topic,
          group: letter.group,
          id: letter.record.id,
          partition: letter.record.partition,
          offset: letter.record.offset,
          attempts: letter.attempts,
          content: decoded._tag === "Some" ? contentOf(decoded.value, letter.record.headers) : undefined
        })
      }
      for (const { partition, settled } of yield* progress(topic, group)) {
        yield* history.record({ _tag: "Progress", topic: topic.name, group, partition, settled })
      }
    }
    for (const name of new Set(Array.from(groups.values(), ({ topic }) => topic.name))) {
      for (const { run, step } of yield* Effect.provideContext(backend.effects(name), services)) {
        yield* history.record({ _tag: "Commit", run, step })
      }
    }
  })

  return {
    leaseMillis: Duration.toMillis(Duration.fromInputUnsafe(backend.lease)),
    history,
    skip: (reason: string): Effect.Effect<never> => Effect.sync(() => skip(reason)),
    start,
    topic,
    publish,
    publishIn,
    consume,
    until,
    seen,
    handled,
    settled,
    reached,
    quiesce,
    progress,
    deadLetters,
    verify,
    close,
    record,
    /** Two keys that lie in one partition of the topic's, and not in that of `key`. */
    elsewhere: (of: TestTopic, key: string): readonly [string, string] => {
      const partition = (key: string) => Backend.partitionOf({ id: "", key }, of.partitions)
      const others = Array.from({ length: 1000 }, (_, index) => `other-${index}`)
      const one = others.find((other) => partition(other) !== partition(key))!
      return [one, others.find((other) => other !== one && partition(other) === partition(one))!]
    }
  }
})
