/** What one test of the suite works with: nodes, topics, recorded consumers, and waiting. */
import * as Backend from "@surety/core/Backend"
import * as DeadLetters from "@surety/core/DeadLetters"
import * as Topic from "@surety/core/Topic"
import * as Transport from "@surety/core/Transport"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as History from "../../History.ts"
import type * as TransportTest from "../../TransportTest.ts"
import { makeConsuming } from "./consuming.ts"
import type { Group, Lab } from "./lab.ts"
import {
  type Guaranteed,
  Message,
  messages,
  NeverHappened,
  type TestNode,
  type TestTopic,
  uniqueName,
  Violated
} from "./model.ts"
import { makeObserving } from "./observing.ts"
import { makePublishing } from "./publishing.ts"

export interface Harness extends Effect.Success<ReturnType<typeof make>> {}

export const make = Effect.fnUntraced(function* <R>(
  backend: TransportTest.Backend<R>,
  /** Ends the test as a skipped one. */
  skip: (reason: string) => never,
  /** How often a condition is looked at before it is given up, in real time every 20 milliseconds. */
  attempts = backend.time === "virtual" ? 20_000 : 1_500
) {
  const services = yield* Effect.context<R>()
  const scope = yield* Effect.scope
  const history = History.make()
  const nodes: Array<TestNode> = []
  const scopes = new Map<TestNode, Scope.Scope>()
  const applies = new Map<TestNode, TransportTest.Node["apply"]>()
  const groups = new Map<string, Group>()

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
        return Effect.andThen(close(own, name), left(node))
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

  const topic = <G extends Guaranteed>(
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

  const lab: Lab = {
    history,
    record,
    groups,
    apply: (node) => applies.get(node)!,
    scopeOf: (node) => scopes.get(node)!,
    close
  }
  const { publish, publishIn, publishLater } = makePublishing(lab, skip)
  const { consume, left } = makeConsuming(lab)

  /** A node through which the store can be read. */
  const reader = Effect.suspend(() => {
    const up = nodes.find(({ state }) => state === "up")
    return up === undefined ? start : Effect.succeed(up)
  })
  const observing = makeObserving(lab, backend, services, Effect.provideService(reader, Scope.Scope, scope))
  const { deadLetters, observe, progress } = observing

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

  /** Hands dead letters to their group again. */
  const redrive = Effect.fnUntraced(function* (
    node: TestNode,
    of: TestTopic,
    filter?: { readonly id?: string },
    group = "group"
  ) {
    const { characteristics } = yield* node.run(Transport.Transport)
    const appended = characteristics.redrives === "appended"
    for (const { record } of yield* deadLetters(of, group)) {
      if (filter?.id !== undefined && filter.id !== record.id) continue
      const { id, offset, partition } = record
      yield* history.record({ _tag: "Redrive", topic: of.name, group, id, partition, offset, appended })
    }
    return yield* node.run(
      Effect.flatMap(DeadLetters.DeadLetters, (service) => service.redrive({ ...filter, topic: of.name, group }))
    )
  })

  /** Checks that nobody is a member of a group any more, and that no partition is held. */
  const vacated = Effect.fnUntraced(function* (of: TestTopic, group = "group") {
    yield* observing.residue(of, group, ["members", "leases"])
    const violations = History.drained(history.events)
    if (violations.length > 0) return yield* Effect.die(new Violated(violations, history.events))
  })

  const partitionOf = backend.partitionOf ?? Backend.partitionOf

  const leaseMillis = Duration.toMillis(Duration.fromInputUnsafe(backend.lease))

  return {
    leaseMillis,
    /**
     * How long it may take until everything is settled, once there are no faults (invariant 19): the lease of a node that
     * has crashed, the next heartbeat of another one, and the longest delay between tries of the store. Real time has a
     * machine that does other things as well.
     */
    boundMillis: (leaseMillis * 4) / 3 + 6_000 + (backend.time === "virtual" ? 0 : 15_000),
    history,
    partitionOf,
    /** Ends the store without warning, and starts it again. */
    crashStore: Effect.suspend(() => Effect.provideContext(backend.crashing!.crash, services)),
    skip: (reason: string): Effect.Effect<never> => Effect.sync(() => skip(reason)),
    start,
    topic,
    publish,
    publishIn,
    publishLater,
    redrive,
    consume,
    until,
    seen,
    handled,
    settled,
    reached,
    quiesce,
    progress,
    deadLetters,
    kept: observing.kept,
    vacated,
    /** From now on there are no faults: everything is to end within this time. */
    calm: (within: number) => history.record({ _tag: "Calm", within }),
    verify,
    close,
    record,
    /** Two keys that lie in one partition of the topic's, and not in that of `key`. */
    elsewhere: (of: TestTopic, key: string): readonly [string, string] => {
      const partition = (key: string) => partitionOf({ id: "", key }, of.partitions)
      const others = Array.from({ length: 1000 }, (_, index) => `other-${index}`)
      const one = others.find((other) => partition(other) !== partition(key))!
      return [one, others.find((other) => other !== one && partition(other) === partition(one))!]
    }
  }
})
