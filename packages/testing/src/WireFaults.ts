/**
 * A real PostgreSQL connection that is cut, falls silent, or comes in pieces, at
 * each message of the protocol that a flow of yours sends, in turn.
 *
 * A client is given the `stream` of a {@link Wire}; {@link enumerate} runs the
 * flow once without a fault, to count its messages, and then once for each
 * message and each fault. What must hold after it is the flow's to check.
 *
 * **Example**
 *
 * ```ts
 * const wire = WireFaults.make(url)
 * const Client = PgClient.layer({ url, applicationName: "shop", maxConnections: 1, stream: wire.stream })
 *
 * const report = yield* WireFaults.enumerate(wire, {
 *   application: "shop",
 *   flow: ({ at }) => Effect.gen(function* () {
 *     yield* transfer(`transfer-${at}`).pipe(Effect.retry({ times: 3 }))
 *     assert.strictEqual(yield* balance, 0)
 *   })
 * })
 * ```
 *
 * Known limits: connections in the clear only. Exhaustive over the messages that
 * one run of the flow sends, one fault in each run; not over what the server does
 * at the same time, nor over two faults in one run ({@link CrashPoints} has
 * pairs). What a flow does concurrently may come in another order from run to
 * run: keep to one connection, or to one application name, where each message is
 * to be met.
 *
 * @since 0.1.0
 */

import type { Duplex } from "node:stream"
import { setImmediate } from "node:timers/promises"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { failedAt } from "./internal/failedAt.ts"
import { type Action, addressOf, Connection, Connections, pass, type Silence } from "./internal/wire/connection.ts"
import type { PointFailed } from "./PointFailed.ts"

export {
  /**
   * The flow failed with a fault at one message.
   *
   * @category errors
   * @since 0.1.0
   */
  PointFailed
} from "./PointFailed.ts"

/**
 * A message that a client has sent.
 *
 * @category models
 * @since 0.1.0
 */
export interface Message {
  /** The `applicationName` of its connection. */
  readonly application: string
  /** Its letter in the protocol: `P`arse, `B`ind, `E`xecute, `S`ync, `Q`uery; empty for the first of a connection. */
  readonly type: string
  /** The text of the statement that it is about. */
  readonly statement: string | undefined
}

/**
 * What happens at a message.
 *
 * @category models
 * @since 0.1.0
 */
export type Fault = Exclude<Action, { readonly _tag: "Pass" }>

/**
 * The connection ends before the server gets the message. It gets those before.
 *
 * @category faults
 * @since 0.1.0
 */
export const cutBefore: Fault = { _tag: "CutBefore" }

/**
 * The server has done what the message asks for, and has answered; the client
 * gets nothing of the answer, and the connection ends.
 *
 * @category faults
 * @since 0.1.0
 */
export const cutAfter: Fault = { _tag: "CutAfter" }

/**
 * The connection falls silent: from the message on no answer arrives for so
 * long, and then it ends. The server does what it is asked for, and keeps the
 * session, its transaction and its locks until then.
 *
 * @category faults
 * @since 0.1.0
 */
export const withhold = (time: Duration.Input): Fault => ({
  _tag: "Withhold",
  millis: Duration.toMillis(Duration.fromInputUnsafe(time))
})

/**
 * From the message on answers arrive so much later, all of them.
 *
 * @category faults
 * @since 0.1.0
 */
export const delay = (time: Duration.Input): Fault => ({
  _tag: "Delay",
  millis: Duration.toMillis(Duration.fromInputUnsafe(time))
})

/**
 * From the message on what both sides send comes in pieces of these sizes in
 * bytes, over and over: `split(1, 3, 7)`.
 *
 * @category faults
 * @since 0.1.0
 */
export const split = (...pieces: readonly [number, ...ReadonlyArray<number>]): Fault => ({ _tag: "Split", pieces })

/**
 * Which message is meant, and what happens there.
 *
 * @category models
 * @since 0.1.0
 */
export interface Aim {
  /** The connections of this `applicationName`; all of the wire's by default. */
  readonly application?: string | undefined
  /** The number of the message, from 1, since it was aimed. */
  readonly at: number
  readonly fault: Fault
}

/**
 * Connections to one server.
 *
 * @category models
 * @since 0.1.0
 */
export interface Wire {
  /** Opens a connection: the option of that name of `PgClient`. */
  readonly stream: () => Duplex
  /**
   * Ends the connections that are open, so that the next message is the first
   * one of a new connection, begins to count, and waits for one message.
   */
  readonly arm: (aim: Aim) => Effect.Effect<void>
  /** No fault from now on. What was counted stays. */
  readonly disarm: Effect.Effect<void>
  /**
   * Carries nothing more of an application, or of all, in either direction, and
   * keeps its connections open: also new ones, as with a server that is frozen,
   * or those that are open `now`, as where a firewall has forgotten them.
   * Returns what ends it: then what was held back arrives.
   */
  readonly silence: (application?: string, which?: "also new ones" | "now") => Effect.Effect<Effect.Effect<void>>
  /** The messages that were sent since it was armed, by the connections that are meant. */
  readonly messages: ReadonlyArray<Message>
  /** Whether the fault has happened. */
  readonly hit: boolean
}

/**
 * Makes a wire to the server of a URL. Give the client the same URL, for its
 * credentials.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (url: Redacted.Redacted): Wire => {
  const address = addressOf(Redacted.value(url))
  const connections = new Connections()
  let aim: Aim | undefined
  let messages: Array<Message> = []
  let hit = false

  const meant = (application: string) => aim !== undefined && (aim.application ?? application) === application
  const sends = (message: Message): Action => {
    if (aim === undefined || !meant(message.application)) return pass
    messages.push(message)
    if (messages.length !== aim.at) return pass
    hit = true
    return aim.fault
  }
  return {
    stream: () => new Connection(address, { unit: "message", sends, answered: () => true }, connections),
    arm: (next) =>
      Effect.suspend(() => {
        aim = next
        for (const [connection, application] of Array.from(connections.open)) if (meant(application)) connection.cut()
        messages = []
        hit = false
        // The client sees that its idle connections are gone.
        return Effect.promise(() => setImmediate())
      }),
    disarm: Effect.sync(() => {
      aim = undefined
    }),
    silence: (application, which = "also new ones") =>
      Effect.sync(() => {
        const now = new Set(connections.open.keys())
        const silence: Silence = {
          meant: (connection, name) =>
            (application ?? name) === name && (which === "also new ones" || now.has(connection)),
          waiting: []
        }
        connections.silences.add(silence)
        return Effect.sync(() => {
          connections.silences.delete(silence)
          for (const act of silence.waiting.splice(0)) act()
        })
      }),
    get messages() {
      return messages
    },
    get hit() {
      return hit
    }
  }
}

/**
 * One run of a flow: without a fault, where `at` is 0.
 *
 * @category models
 * @since 0.1.0
 */
export interface Point {
  /** The number of the message, from 1. */
  readonly at: number
  readonly fault: Fault | undefined
  /** The fault and the message, as text: another one for each run. */
  readonly name: string
}

/**
 * What was tried.
 *
 * @category models
 * @since 0.1.0
 */
export interface Report {
  /** How many messages the flow sends. */
  readonly messages: number
  /** In how many runs the fault happened: the messages times the faults, unless some were missed. */
  readonly points: number
  /** The points that a run did not come to, since it sent fewer messages than the first one. */
  readonly missed: ReadonlyArray<string>
}

const nameOf = (fault: Fault): string => {
  switch (fault._tag) {
    case "CutBefore":
      return "cut before"
    case "CutAfter":
      return "cut after"
    case "Withhold":
      return `silent for ${fault.millis} ms at`
    case "Delay":
      return `answers ${fault.millis} ms late from`
    case "Split":
      return `in pieces of ${fault.pieces.join(", ")} bytes from`
  }
}

/**
 * Runs a flow with each fault at each message that it sends.
 *
 * **Details**
 *
 * The flow does its work, recovers as the app would (by a retry, a redelivery),
 * and fails where something is not as it has to be. The wire is armed when it
 * begins, and goes on being armed until its fault has happened. Its runs share
 * the database: give what they make the point's `name`, or `at`, or remove it.
 *
 * @category running
 * @since 0.1.0
 */
export const enumerate = <E, R>(
  wire: Wire,
  options: {
    /** The connections of this `applicationName` alone. */
    readonly application?: string | undefined
    /** By default {@link cutBefore} and {@link cutAfter}. */
    readonly faults?: ReadonlyArray<Fault> | undefined
    /** How many of the messages of the run without a fault are the flow's, from the first on. By default all. */
    readonly count?: ((messages: ReadonlyArray<Message>) => number) | undefined
    readonly flow: (point: Point) => Effect.Effect<unknown, E, R>
  }
): Effect.Effect<Report, PointFailed, R> =>
  Effect.gen(function* () {
    const { application, flow } = options
    const run = (point: Point, aim: Aim, place: (message: Message) => string) =>
      Effect.andThen(wire.arm(aim), flow(point)).pipe(
        Effect.ensuring(wire.disarm),
        // Where messages come in another order from run to run, that of this one counts.
        failedAt(() => (wire.hit ? place(wire.messages[aim.at - 1]!) : point.name))
      )

    const begin: Point = { at: 0, fault: undefined, name: "without a fault" }
    yield* run(begin, { application, at: Infinity, fault: cutBefore }, () => begin.name)
    const sent = Array.from(wire.messages)
    const messages = options.count?.(sent) ?? sent.length
    let points = 0
    const missed: Array<string> = []
    for (const fault of options.faults ?? [cutBefore, cutAfter]) {
      for (let at = 1; at <= messages; at++) {
        const place = ({ statement, type }: Message) => {
          const what = statement === undefined ? type : `${type} of ${statement.replaceAll(/\s+/g, " ").slice(0, 80)}`
          return `${nameOf(fault)} message ${at} of ${messages} (${what})`
        }
        const name = place(sent[at - 1]!)
        yield* run({ at, fault, name }, { application, at, fault }, place)
        if (wire.hit) points++
        else missed.push(name)
      }
    }
    return { messages, points, missed }
  })
