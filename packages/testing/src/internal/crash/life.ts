/** One life of a process: its moments are counted, and at one of them it ends. */
import type { Around } from "@surety/core/Interference"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import { type Action, Connections, pass, type Watcher } from "../wire/connection.ts"

export class Life {
  /** That of the in-memory store: nothing reaches it once it is dead. */
  readonly node = { alive: true }
  /** The moments so far at which it could end, by name; one that comes again has its number. */
  readonly moments: Array<string> = []
  readonly connections = new Connections()
  readonly #at: string | undefined
  readonly #times = new Map<string, number>()
  readonly #ended = Latch.makeUnsafe(false)
  #counting = false

  /** It ends at this moment, if it comes to it. */
  constructor(at?: string) {
    this.#at = at
  }

  /** What was done until now, to build its layers, is not what it is to end in. */
  readonly begin: Effect.Effect<void> = Effect.sync(() => {
    this.#counting = true
  })

  /** Completes once it has ended. */
  get ended(): Effect.Effect<void> {
    return this.#ended.await
  }

  /** Whether it goes on after this moment. */
  #survives(name: string): boolean {
    if (!this.node.alive || !this.#counting) return this.node.alive
    const times = (this.#times.get(name) ?? 0) + 1
    this.#times.set(name, times)
    const moment = times === 1 ? name : `${name} (${times})`
    this.moments.push(moment)
    if (moment !== this.#at) return true
    this.node.alive = false
    for (const connection of Array.from(this.connections.open.keys())) connection.cut()
    this.#ended.openUnsafe()
    return false
  }

  /** A durable step, before and after which it may end. Nobody sees what its fibers do then: they are interrupted. */
  step<A, E, R>(name: string, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return Effect.suspend(() =>
      this.#survives(`before ${name}`)
        ? Effect.flatMap(effect, (result) =>
            this.#survives(`after ${name}`) ? Effect.succeed(result) : Effect.interrupt
          )
        : Effect.interrupt
    )
  }

  /** Its steps at the in-memory store. */
  readonly around: Around = {
    operation: ({ name, topic }, effect) => this.step(`${name} of ${topic}`, effect),
    consumer: (_, effect) => effect,
    run: (_, effect) => effect,
    handler: (_, effect) => effect,
    publish: (_topic, _records, effect) => effect
  }

  /** Its steps on a wire: statements, as wholes. */
  readonly watcher: Watcher = {
    unit: "statement",
    sends: ({ statement }): Action => (this.#passes("before", statement) ? pass : { _tag: "CutBefore" }),
    answered: ({ statement }) => this.#passes("after", statement)
  }

  #passes(when: "before" | "after", statement: string | undefined): boolean {
    return statement === undefined
      ? this.node.alive
      : this.#survives(`${when} ${statement.replaceAll(/\s+/g, " ").trim().slice(0, 80)}`)
  }
}
