/**
 * The store behind the in-memory transport, inbox, outbox and dead letters.
 *
 * The layers named `layerMemory` share one by themselves, wherever they are
 * built together. It is a service of its own so that a test can put several
 * nodes on one store.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
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
 * Options of a store.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** How long a silent member keeps its partitions. Default 15 seconds. */
  readonly lease?: Duration.Input | undefined
  /** The largest record, in bytes of id, key, headers and payload together. Default 1 MiB. */
  readonly maxRecordBytes?: number | undefined
  /**
   * For how long what is over is kept: messages of the log, once every group of
   * their topic has settled them, and settled ids of the inbox. It is dropped
   * when something new comes. Default `forever`, for both.
   */
  readonly retention?:
    | {
        readonly log?: Duration.Input | "forever" | undefined
        readonly inbox?: Duration.Input | "forever" | undefined
      }
    | undefined
}

/**
 * The options of the store that is made by {@link layer}, and with it by every
 * layer named `layerMemory`.
 *
 * @category references
 * @since 0.1.0
 */
export const CurrentOptions = Context.Reference<Options>("@surety/core/MemoryStore/CurrentOptions", {
  defaultValue: () => ({})
})

const toRetention = (input: Duration.Input | "forever" = "forever"): number | "forever" => {
  const millis = input === "forever" ? Infinity : Duration.toMillis(Duration.fromInputUnsafe(input))
  return Number.isFinite(millis) ? Math.max(0, millis) : "forever"
}

/**
 * The store, with the options that {@link CurrentOptions} says.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<MemoryStore> = Layer.effect(
  MemoryStore,
  Effect.gen(function* () {
    const { lease, maxRecordBytes, retention } = yield* CurrentOptions
    const settings = {
      leaseMillis: Duration.toMillis(Duration.fromInputUnsafe(lease ?? "15 seconds")),
      maxRecordBytes: maxRecordBytes ?? 1024 * 1024,
      retention: { log: toRetention(retention?.log), inbox: toRetention(retention?.inbox) }
    }
    return internal.make(settings, yield* Clock.Clock)
  })
)

/**
 * Sets the options of the store.
 *
 * **Example**
 *
 * ```ts
 * Surety.layerMemory.pipe(Layer.provide(MemoryStore.options({ lease: "5 seconds" })))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const options = (options: Options): Layer.Layer<never> => Layer.succeed(CurrentOptions, options)
