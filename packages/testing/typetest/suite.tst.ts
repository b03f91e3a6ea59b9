/** What a transport of one's own has to say for the conformance suite, and what a history is made of. */
import type { DelayedDelivery, Surety, Transaction, Transport } from "@surety/core"
import * as History from "@surety/testing/History"
import * as TransportTest from "@surety/testing/TransportTest"
import { Context, Effect, Layer, type Scope } from "effect"
import { describe, expect, it } from "tstyche"

class Store extends Context.Service<Store, { readonly rows: ReadonlyArray<TransportTest.Row> }>()("Store") {}
class Elsewhere extends Context.Service<Elsewhere, {}>()("Elsewhere") {}

declare const services: Context.Context<TransportTest.Services>
declare const lacking: Context.Context<Transport.Transport>

const node: TransportTest.Node = {
  services,
  apply: () => Effect.void,
  disconnect: () => Effect.void,
  reconnect: Effect.void
}
const backend: TransportTest.Backend<Store> = {
  time: "real",
  lease: "1 second",
  store: Layer.succeed(Store, { rows: [] }),
  node: () => Effect.as(Store, node),
  effects: () => Effect.map(Store, ({ rows }) => rows)
}

describe("a backend", () => {
  it("is all that the suite needs", () => {
    expect(TransportTest.suite("mine", backend)).type.toBe<void>()
    TransportTest.suite("memory", TransportTest.memory(), { timeout: "1 minute" })
    expect(TransportTest.violated(backend, "progress never moves back")).type.toBe<
      Effect.Effect<ReadonlySet<number>, unknown, Store>
    >()
  })

  it("provides all guarantees on each node; delayed delivery is a transport's choice", () => {
    expect<TransportTest.Services>().type.toBe<Exclude<Surety.Services, DelayedDelivery.DelayedDelivery>>()
    // @ts-expect-error Type 'Context<Transport>' is not assignable to type 'Context<
    const incomplete: TransportTest.Node = { ...node, services: lacking }
    expect(incomplete).type.toBeAssignableTo<TransportTest.Node>()
  })

  it("puts nodes on its own store, and on nothing else", () => {
    // @ts-expect-error is not assignable to type
    const other: TransportTest.Backend<Store> = { ...backend, node: () => Effect.as(Elsewhere, node) }
    const scoped: TransportTest.Backend<Store> = { ...backend, node: () => Effect.as(Effect.scope, node) }
    expect([other, scoped]).type.toBeAssignableTo<ReadonlyArray<TransportTest.Backend<Store>>>()
    expect(backend.node("n1")).type.toBe<Effect.Effect<TransportTest.Node, unknown, Store | Scope.Scope>>()
  })

  it("writes rows in the handler's transaction", () => {
    expect(node.apply).type.toBe<(row: TransportTest.Row) => Effect.Effect<void, unknown, Transaction>>()
  })

  it("says how long its leases are", () => {
    const { lease: _, ...rest } = backend
    // @ts-expect-error Property 'lease' is missing
    TransportTest.suite("mine", rest)
  })
})

describe("a history", () => {
  it("is a list of facts in their places", () => {
    const history = History.fromFacts([{ _tag: "Crash", node: "n1" }])
    expect(history).type.toBe<History.History>()
    expect(History.check(history)).type.toBe<ReadonlyArray<History.Violation>>()
    expect(History.invariants).type.toBe<
      ReadonlyArray<(history: History.History) => ReadonlyArray<History.Violation>>
    >()
    expect(History.format(History.noLoss(history))).type.toBe<string>()
  })

  it("is recorded, fact by fact", () => {
    const recorder = History.make()
    expect(recorder.record({ _tag: "Restart", node: "n1" })).type.toBe<Effect.Effect<History.Event>>()
    expect(recorder.events).type.toBe<History.History>()
    // @ts-expect-error Property 'node' is missing
    recorder.record({ _tag: "Restart" })
    // @ts-expect-error Type '"Explode"' is not assignable to type
    recorder.record({ _tag: "Explode", node: "n1" })
  })

  it("has an invariant of yours as any other", () => {
    const mine = (history: History.History): ReadonlyArray<History.Violation> =>
      history.flatMap((event) => {
        if (event._tag !== "Start") return []
        expect(event).type.toBe<History.EventOf<"Start">>()
        return [{ invariant: 100, name: "mine", message: `${event.id} started`, events: [event] }]
      })
    expect(mine).type.toBeAssignableTo<(typeof History.invariants)[number]>()
  })
})
