/**
 * Acknowledgements: what a transport promises when `publish` succeeds.
 *
 * Only a transport that acknowledges durable storage provides {@link Acks}; one
 * that is told not to wait for it provides none, and `AtLeastOnce.layer` does
 * not compile on it.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Layer from "effect/Layer"

/**
 * How much of a transport has stored a record before it acknowledges it:
 *
 * - `none`: nothing is waited for;
 * - `leader`: the one node that took it, which may lose it when it fails;
 * - `all`: as durable as the transport promises at all.
 *
 * @category models
 * @since 0.1.0
 */
export type Level = "none" | "leader" | "all"

/**
 * The acknowledgement of durable storage, and how long to wait for it before
 * the outcome of a try is called unknown.
 *
 * @category services
 * @since 0.1.0
 */
export class Acks extends Context.Service<
  Acks,
  {
    readonly level: "all"
    readonly timeout: Duration.Duration
  }
>()("@surety/core/Acks") {}

interface Options {
  readonly level: "all"
  readonly timeout?: Duration.Input | undefined
}

/** @internal */
export const make = ({ level, timeout }: Options): Acks["Service"] => ({
  level,
  timeout: Duration.fromInputUnsafe(timeout ?? "5 seconds")
})

/**
 * Used by transports to say that they acknowledge. `timeout` is 5 seconds by
 * default.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<Acks> => Layer.succeed(Acks, make(options))
