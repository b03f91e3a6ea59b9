/**
 * The store behind the in-memory transport, inbox, outbox and dead letters.
 *
 * The layers named `layerMemory` share one by themselves, wherever they are
 * built together. It is a service of its own so that a test can put several
 * nodes on one store.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Layer from "effect/Layer"
import * as internal from "./internal/memory/store.ts"

/**
 * The shared state. Opaque.
 *
 * @category services
 * @since 0.1.0
 */
export class MemoryStore extends Context.Service<MemoryStore, internal.Store>()("@surety/core/MemoryStore") {}

/**
 * The process that a layer stands for, where a test puts several on one store.
 *
 * **Details**
 *
 * Once `alive` is false, everything that the node asks of the store fails as
 * unavailable, and its heartbeats and finalizers no longer reach it: what a
 * crash looks like from outside.
 *
 * @category references
 * @since 0.1.0
 */
export const Node = Context.Reference<{ alive: boolean }>("@surety/core/MemoryStore/Node", {
  defaultValue: () => ({ alive: true })
})

/**
 * Makes a store. `lease` is how long a silent member keeps its partitions (15
 * seconds by default); `maxRecordBytes` the size limit of a record (1 MiB by
 * default).
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: {
  readonly lease?: Duration.Input | undefined
  readonly maxRecordBytes?: number | undefined
}): Layer.Layer<MemoryStore> =>
  Layer.sync(MemoryStore, () =>
    internal.make({
      leaseMillis: Duration.toMillis(Duration.fromInputUnsafe(options.lease ?? "15 seconds")),
      maxRecordBytes: options.maxRecordBytes ?? 1024 * 1024
    })
  )

/**
 * A store with the default settings.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<MemoryStore> = layerWith({})
