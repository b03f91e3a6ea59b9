/** What is recorded of a run: the facts of `History`, of an app that knows nothing of it. */

import type { Consumer } from "@surety/core/Consumer"
import type { Headers } from "@surety/core/Envelope"
import type { Around, Given } from "@surety/core/Interference"
import * as MemoryStore from "@surety/core/MemoryStore"
import { PublishError } from "@surety/core/PublishError"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as History from "../../History.ts"
import type { World } from "./world.ts"

/** The runs of handlers that the calling fiber belongs to. */
export const CurrentRuns = Context.Reference<ReadonlyArray<number>>("@surety/testing/internal/CurrentRuns", {
  defaultValue: () => []
})

export class Recording {
  readonly events: Array<History.Event> = []
  readonly #world: World
  #runs = 0
  #calls = 1
  readonly #registered = new Set<string>()

  constructor(world: World) {
    this.#world = world
  }

  record(fact: History.Fact): void {
    this.events.push({ ...fact, seq: this.events.length, time: Math.round(this.#world.now) })
  }

  nextRun(): number {
    return ++this.#runs
  }

  /** A place in the history, before the next event, that no other call has. */
  nextCall(): number {
    return this.events.length - 1 + 1 / ++this.#calls
  }

  /** The first time that a group is seen. */
  isNew(topic: string, group: string): boolean {
    const key = JSON.stringify([topic, group])
    if (this.#registered.has(key)) return false
    this.#registered.add(key)
    return true
  }
}

/** FNV-1a over payload and headers: what must be the same at every hop. */
export const contentOf = ({
  headers,
  payload
}: {
  readonly headers: Headers
  readonly payload: Uint8Array
}): string => {
  let hash = 0x811c9dc5
  const mix = (byte: number) => {
    hash = Math.imul(hash ^ byte, 0x01000193)
  }
  for (const byte of payload) mix(byte)
  for (const name of Object.keys(headers).sort()) {
    const text = `${name}:${headers[name]}`
    for (let i = 0; i < text.length; i++) mix(text.charCodeAt(i))
  }
  return (hash >>> 0).toString(16)
}

/** The transaction of which the calling fiber is in a savepoint. */
const inSavepointOf = Effect.flatMap(MemoryStore.inSavepoint, (inside) =>
  inside ? MemoryStore.currentTransaction : Effect.undefined
)

/** What a node's process does, recorded. */
export class Observed {
  readonly #recording: Recording
  readonly #node: string
  /** Publishes that have not ended: should the process, nobody knows how they did. */
  readonly #publishing = new Set<(outcome: "info") => void>()
  /** Handlers that run. */
  running = 0

  constructor(recording: Recording, node: string) {
    this.#recording = recording
    this.#node = node
  }

  /** The process has ended without a word. */
  ended(): void {
    for (const record of this.#publishing) record("info")
    this.#publishing.clear()
    this.running = 0
  }

  readonly publish: Around["publish"] = (topic, records, effect) =>
    Effect.zipWith(CurrentRuns, inSavepointOf, ([run], transaction) => ({ run, transaction })).pipe(
      Effect.flatMap(({ run, transaction }) => {
        const recording = this.#recording
        const call = recording.nextCall()
        const record = (outcome: "ok" | "fail" | "info", joined = false) => {
          records.forEach((record, index) => {
            const { id, key } = record
            recording.record({
              _tag: "Publish",
              outcome,
              node: this.#node,
              topic,
              id,
              key,
              call,
              index,
              run: joined ? run : undefined,
              content: contentOf(record)
            })
          })
        }
        this.#publishing.add(record)
        return Effect.onExit(effect, (exit) =>
          Effect.sync(() => {
            this.#publishing.delete(record)
            if (Exit.isSuccess(exit)) {
              const joined = exit.value === "joined"
              if (!joined || transaction === undefined) return record("ok", joined)
              // Whether it is published the end of the savepoint tells, or of the transaction.
              transaction.changes.push(() => record("ok", true))
              transaction.undo.push(() => record("fail", true))
              return
            }
            const error = Cause.findErrorOption(exit.cause)
            record(error._tag === "Some" && error.value.reason._tag !== "MaybeSent" ? "fail" : "info")
          })
        )
      })
    )

  readonly consumer: Around["consumer"] = (consumer, effect) => {
    const place = { node: this.#node, topic: consumer.topic.name, group: consumer.settings.group }
    return Effect.suspend(() => {
      if (this.#recording.isNew(place.topic, place.group)) this.#recording.record(registered(consumer))
      this.#recording.record({ _tag: "Join", ...place })
      return Effect.ensuring(
        effect,
        Effect.sync(() => this.#recording.record({ _tag: "Leave", ...place }))
      )
    })
  }

  readonly run = <A, E, R>({ envelopes, records }: Given, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    // A run that has begun in the history also ends there, whenever it is interrupted.
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(MemoryStore.currentTransaction, (transaction) => {
        const recording = this.#recording
        const runs = envelopes.map(
          ({ attempt, epoch, group, id, key, offset, partition, topic }): History.Run => ({
            run: recording.nextRun(),
            node: this.#node,
            topic,
            group,
            id,
            key,
            partition,
            offset,
            attempt,
            epoch
          })
        )
        runs.forEach((run, index) => {
          const batch = runs.length > 1 ? { batch: runs[0]!.run } : {}
          recording.record({ _tag: "Start", ...run, content: contentOf(records[index]!), ...batch })
          if (transaction === undefined) return
          const effect = { run: run.run, step: 1 }
          recording.record({ _tag: "Apply", ...effect })
          transaction.changes.push(() => recording.record({ _tag: "Commit", ...effect }))
        })
        this.running++
        return Effect.onExit(
          Effect.provideService(
            restore(effect),
            CurrentRuns,
            runs.map(({ run }) => run)
          ),
          (exit) =>
            Effect.sync(() => {
              this.running--
              const outcome = Exit.isSuccess(exit) ? "ok" : isNobodys(exit.cause) ? "interrupt" : "fail"
              for (const run of runs) recording.record({ _tag: "End", ...run, outcome })
            })
        )
      })
    )
}

/** No failure of the message: its process is shut down, or the store has failed. */
const isNobodys = (cause: Cause.Cause<unknown>): boolean =>
  Cause.hasInterruptsOnly(cause) ||
  cause.reasons.some((reason) => {
    const error = Cause.isFailReason(reason) ? reason.error : Cause.isDieReason(reason) ? reason.defect : undefined
    return (
      error instanceof MemoryStore.ConnectionLost ||
      (error instanceof PublishError && error.reason._tag === "NotSent" && error.reason.cause.isRetryable)
    )
  })

const registered = ({ settings, topic }: Consumer<any, any, any>): History.Fact => ({
  _tag: "Register",
  topic: topic.name,
  group: settings.group,
  guarantee: topic.guarantee,
  from: settings.startFrom,
  batchSize: settings.batch?.maxSize ?? (topic.guarantee === "exactly-once" ? settings.batchSize : 1),
  prefetch: settings.prefetch
})
