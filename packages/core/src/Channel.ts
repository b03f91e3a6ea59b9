/**
 * Named channels: more than one transport, database or policy in one app.
 *
 * A channel is a class of yours. A topic that names it requires the guarantee
 * services of that channel, which only layers put on that channel provide: an
 * audit log on a database of its own cannot be satisfied by the database of
 * the orders. The unnamed channel is the default and costs no word.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Types from "effect/Types"

const TypeId = "~@surety/core/Channel"

/**
 * The instance type of a channel class. Channels of different names are
 * different types.
 *
 * @category models
 * @since 0.1.0
 */
export interface Channel<in out Name extends string> {
  readonly [TypeId]: Types.Invariant<Name>
}

/**
 * A channel as it is given to `Topic.make`: a class made by {@link make}.
 *
 * @category models
 * @since 0.1.0
 */
export interface ChannelClass<out C> {
  new (): C
  readonly channelName: string
}

/**
 * Makes the base class of a channel.
 *
 * **Details**
 *
 * The name is the channel's identity at run time: two classes of one name are
 * one channel.
 *
 * **Example**
 *
 * ```ts
 * class Audit extends Channel.make("Audit") {}
 * const AuditLog = Topic.make("audit-log", { schema, guarantee: "at-least-once", channel: Audit })
 * const AuditLive = Surety.layerMemory.pipe(Channel.on(Audit))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <const Name extends string>(
  name: Name
): {
  new (): Channel<Name>
  readonly channelName: string
} =>
  class {
    static readonly channelName = name
    readonly [TypeId]: Types.Invariant<Name> = (_) => _
  }

/**
 * The unnamed channel, on which every topic is that names none.
 *
 * @category models
 * @since 0.1.0
 */
export class Default extends make("") {}

/**
 * The service `S` on the named channel `C`.
 *
 * @category models
 * @since 0.1.0
 */
export interface On<in out S, in out C> {
  readonly "~@surety/core/Channel/On": {
    readonly _S: Types.Invariant<S>
    readonly _C: Types.Invariant<C>
  }
}

/**
 * The service `S` on channel `C`: `S` itself on the default channel.
 *
 * @category models
 * @since 0.1.0
 */
export type Of<S, C> = [C] extends [Default] ? S : On<S, C>

const services = [
  "@surety/core/AtMostOnce",
  "@surety/core/AtLeastOnce",
  "@surety/core/ExactlyOnce",
  "@surety/core/Transport",
  "@surety/core/Acks",
  "@surety/core/DelayedDelivery",
  "@surety/core/Inbox",
  "@surety/core/Outbox",
  "@surety/core/DeadLetters",
  "@surety/core/Transaction"
] as const

/**
 * The services that exist once per channel.
 *
 * @category models
 * @since 0.1.0
 */
export interface PerChannel {
  readonly key: (typeof services)[number]
}

/**
 * `R` with every per-channel service moved to channel `C`.
 *
 * @category models
 * @since 0.1.0
 */
export type Moved<R, C> = R extends PerChannel ? Of<R, C> : R

const keyOf = (key: string, channelName: string): string => (channelName === "" ? key : `${key}@${channelName}`)

/**
 * The key of a service on a channel.
 *
 * @category accessors
 * @since 0.1.0
 */
export const key = <I, S, C>(service: Context.Key<I, S>, channel: ChannelClass<C>): Context.Service<Of<I, C>, S> =>
  channel.channelName === ""
    ? (service as Context.Service<any, S>)
    : Context.Service<Of<I, C>, S>(keyOf(service.key, channel.channelName))

const move = (context: Context.Context<never>, from: string, to: string): Context.Context<never> => {
  const map = new Map(context.mapUnsafe)
  for (const service of services) {
    map.delete(service)
    const value = context.mapUnsafe.get(keyOf(service, from))
    if (value !== undefined) map.set(keyOf(service, to), value)
  }
  return Context.makeUnsafe(map)
}

/**
 * Puts a layer on a channel: what it provides, and what it requires, of the
 * per-channel services (transport, acks, inbox, outbox, guarantees) belongs to
 * that channel alone.
 *
 * **Details**
 *
 * The layer is built anew for the channel, never shared with another one;
 * services that are not per channel (a database client, say) are taken from
 * the context as usual.
 *
 * @category combinators
 * @since 0.1.0
 */
export const on =
  <C>(channel: ChannelClass<C>) =>
  <Out, E, In>(layer: Layer.Layer<Out, E, In>): Layer.Layer<Moved<Out, C>, E, Moved<In, C>> =>
    Layer.effectContext(
      Effect.gen(function* () {
        const scope = yield* Effect.scope
        const context = yield* Effect.context<never>()
        const built = yield* Layer.buildWithScope(Layer.fresh(layer), scope).pipe(
          Effect.provideContext(move(context, channel.channelName, "") as Context.Context<In>)
        )
        return move(built as Context.Context<never>, "", channel.channelName) as Context.Context<Moved<Out, C>>
      })
    ) as Layer.Layer<Moved<Out, C>, E, Moved<In, C>>
