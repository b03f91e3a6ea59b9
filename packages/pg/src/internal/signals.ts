/**
 * Who wakes whom: what this process changes wakes its own waiters at once, and
 * those of other processes by coalesced notifications. A notification that is
 * lost delays by the poll interval; it loses nothing.
 */
import { Signal } from "@surety/core/Backend"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import { answeredRows, background, type Database } from "./database.ts"

/** How long what is stored waits for a notification after the last one: the longer, the more publishes had shared that. */
const coalesceMillis = 5
const maxCoalesceMillis = 20
const reconnectMillis = 1000
const listenMillis = 10_000

export interface Signals {
  /** Records were stored in a partition. */
  readonly partition: (topic: number, partition: number) => Signal
  /** Members of a group came or went. */
  readonly group: (group: number) => Signal
  /** Dead letters of a group were redriven. */
  readonly redriven: (group: number) => Signal
  /** Wakes the partitions, here and elsewhere. */
  readonly stored: (topic: number, partitions: Iterable<number>) => void
}

export const make = (db: Database): Effect.Effect<Signals, never, Scope.Scope> =>
  Effect.gen(function* () {
    const partitions = new Map<string, Signal>()
    const groups = new Map<string, Signal>()
    const redriven = new Map<string, Signal>()
    const signalOf = (signals: Map<string, Signal>, key: string): Signal => {
      let signal = signals.get(key)
      if (signal === undefined) {
        signal = new Signal()
        signals.set(key, signal)
      }
      return signal
    }

    const pending = new Map<number, Set<number>>()
    const outgoing = new Signal()
    let announced = 0
    const announce = Effect.suspend(() => {
      const seen = outgoing.version
      if (pending.size === 0) return outgoing.changed(seen)
      const rest = Math.min((seen - announced) * coalesceMillis, maxCoalesceMillis)
      announced = seen
      const payloads = Array.from(pending, ([topic, which]) => `t${topic}:${Array.from(which).join(",")}`)
      pending.clear()
      // What a crash loses, nobody waits for: the commit of a notification need not reach the disk.
      const notify = answeredRows(
        db,
        `SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, payload) FROM unnest($2::text[]) AS payload`,
        [db.channel, payloads]
      )
      return notify.pipe(Effect.ignore, Effect.andThen(Effect.sleep(rest)))
    })

    const receive = (payload: string): void => {
      const kind = payload[0]
      if (kind === "g" || kind === "r") {
        const signals = kind === "g" ? groups : redriven
        signals.get(payload.slice(1))?.notify()
        return
      }
      const [topic, which] = payload.slice(1).split(":")
      for (const partition of (which ?? "").split(",")) partitions.get(`${topic}/${partition}`)?.notify()
    }
    const listen = Effect.gen(function* () {
      const listening = yield* Effect.scope
      // Closed before what listens to it is: that would say so, and wait for an answer.
      return yield* Effect.scoped(
        Effect.gen(function* () {
          const connection = yield* db.listener
          const notifications = yield* connection
            .listen(db.channel)
            .pipe(Scope.provide(listening), Effect.timeout(listenMillis))
          // Whatever happened before, or while the connection was away.
          for (const signal of [...partitions.values(), ...groups.values(), ...redriven.values()]) signal.notify()
          while (true) receive((yield* Queue.take(notifications)).payload)
        })
      )
    }).pipe(
      Effect.scoped,
      Effect.catch((error) => Effect.logDebug("not listening for notifications; polling goes on", error)),
      Effect.andThen(Effect.sleep(reconnectMillis))
    )

    yield* background(Effect.forever(announce))
    yield* background(Effect.forever(listen))

    return {
      partition: (topic, partition) => signalOf(partitions, `${topic}/${partition}`),
      group: (group) => signalOf(groups, `${group}`),
      redriven: (group) => signalOf(redriven, `${group}`),
      stored: (topic, which) => {
        let waiting = pending.get(topic)
        if (waiting === undefined) {
          waiting = new Set()
          pending.set(topic, waiting)
        }
        for (const partition of which) {
          waiting.add(partition)
          partitions.get(`${topic}/${partition}`)?.notify()
        }
        outgoing.notify()
      }
    }
  })
