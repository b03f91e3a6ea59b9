/** A broker in memory, as the other system, and nodes that have it and the test's database. */
import * as PgClient from "@effect/sql-pg/PgClient"
import { type Acks, MemoryStore, Transport } from "@surety/core"
import type * as PgOutbox from "@surety/pg/PgOutbox"
import * as PgSchema from "@surety/pg/PgSchema"
import * as SuretyPg from "@surety/pg/SuretyPg"
import { Context, Effect, Layer, type Scope } from "effect"
import { type NodeOptions, TestDatabase } from "./nodes.ts"

/** The records of a topic of a broker, in the order of its partitions. */
export const recordsOf = ({ logs }: MemoryStore.MemoryStore["Service"], topic: string) =>
  (logs.get(topic)?.partitions ?? []).flatMap((log) => log.after(0, 100_000))

export interface Broker {
  readonly memoMap: Layer.MemoMap
  /** What a topic holds: the ids, in the order of its partitions. */
  readonly holds: (topic: string) => ReadonlyArray<string>
}

/** A broker of its own, whose members are silent for as long before they lose their partitions. */
export const makeBroker = Effect.fnUntraced(function* (
  options: MemoryStore.Options = { lease: "600 millis" }
): Effect.fn.Return<Broker, never, Scope.Scope> {
  const memoMap = yield* Layer.makeMemoMap
  // Every node's layers find this one.
  const built = yield* Layer.buildWithMemoMap(MemoryStore.layer, memoMap, yield* Effect.scope).pipe(
    Effect.provideService(MemoryStore.CurrentOptions, options)
  )
  const store = Context.get(built, MemoryStore.MemoryStore)
  return { memoMap, holds: (topic) => recordsOf(store, topic).map(({ id }) => id) }
})

export type Target = Transport.Transport["Service"]

/** The broker, as a process sees it that may lose it. */
export const connect = Effect.fnUntraced(function* ({ memoMap }: Broker, node = { alive: true }) {
  return yield* Layer.buildWithMemoMap(
    Transport.layerMemory,
    Layer.forkMemoMapUnsafe(memoMap),
    yield* Effect.scope
  ).pipe(Effect.provideService(MemoryStore.Node, node))
})

export interface AcrossOptions extends NodeOptions {
  readonly relay?: PgOutbox.RelayOptions | undefined
  /** What the node sees of the broker. */
  readonly seen?: ((broker: Target) => Target) | undefined
}

/** A process that has the broker, and the test's database, until the scope closes. */
export const startAcross = Effect.fnUntraced(function* (
  broker: Broker,
  { client, relay, seen = (target) => target, ...schema }: AcrossOptions = {}
) {
  const { url } = yield* TestDatabase
  const node = { alive: true }
  const own = yield* connect(broker, node)
  const target: Context.Context<Transport.Transport | Acks.Acks> = Context.add(
    own,
    Transport.Transport,
    seen(Context.get(own, Transport.Transport))
  )
  const context = yield* SuretyPg.layerAcross(relay).pipe(
    Layer.provideMerge(
      PgSchema.layerWith({ pollInterval: "100 millis", ...schema }).pipe(
        Layer.provideMerge(PgClient.layerFrom(PgClient.make({ applicationName: "app", ...client, url })))
      )
    ),
    Layer.fresh,
    Layer.build,
    Effect.provideContext(target)
  )
  return {
    /** The services of the composition. */
    run: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.provideContext(effect, context),
    /** Those of the broker alone. */
    atBroker: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.provideContext(effect, own),
    /** From now on the broker is out of reach, or is again. */
    reachBroker: (reachable: boolean) =>
      Effect.sync(() => {
        node.alive = reachable
      })
  }
})
