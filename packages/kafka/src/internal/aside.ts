/**
 * What a group keeps aside of a partition until it is due: records of a
 * compacted topic beside its own, `payments.retries` for `payments`, in the
 * partition of the same number. The partition's holder reads them when it
 * begins, and is the only one that writes them.
 */
import type { StoredRecord } from "@surety/core/Envelope"
import type { Attempts, ClaimedRecord, ParkedRecord, TopicDeclaration } from "@surety/core/Transport"
import type { TransportError } from "@surety/core/TransportError"
import * as Effect from "effect/Effect"
import type { Cluster } from "./cluster.ts"
import { readAll } from "./log.ts"
import { compacted, encode, Kept, names, tombstone } from "./placed.ts"
import type { Outgoing, Producer } from "./producer.ts"
import { declare, partitionsOf } from "./topics.ts"

export interface KeptAside {
  readonly record: StoredRecord
  /** The key whose later records wait behind it. */
  readonly key: string | undefined
  readonly dueAt: number | undefined
  readonly attempts: Attempts | undefined
}

export class Aside {
  readonly #cluster: Cluster
  readonly #producer: Producer
  readonly #topic: TopicDeclaration
  readonly #group: string
  readonly #partition: number
  readonly #kept = new Map<number, KeptAside>()

  constructor(cluster: Cluster, producer: Producer, topic: TopicDeclaration, group: string, partition: number) {
    this.#cluster = cluster
    this.#producer = producer
    this.#topic = { ...topic, name: `${topic.name}.retries` }
    this.#group = group
    this.#partition = partition
  }

  /** What earlier holders have kept. */
  get load(): Effect.Effect<void, TransportError> {
    return Effect.gen({ self: this }, function* () {
      const { name } = this.#topic
      if ((yield* partitionsOf(this.#cluster, name)) === undefined) return
      const found = new Kept(({ group, header, record }) => ({
        group,
        record,
        key: record.key,
        dueAt: numberOf(header(names.dueAt)),
        attempts: attemptsOf(header(names.attempts))
      }))
      yield* readAll(this.#cluster, name, (message) => found.add(message), this.#partition)
      for (const { group, ...kept } of found.all) if (group === this.#group) this.#kept.set(kept.record.offset, kept)
    })
  }

  get(offset: number): KeptAside | undefined {
    return this.#kept.get(offset)
  }

  get size(): number {
    return this.#kept.size
  }

  /** How many of them the group's cursor has passed. */
  passed(settled: number): number {
    let size = 0
    for (const offset of this.#kept.keys()) if (offset <= settled) size++
    return size
  }

  list(after: number, max: number): ReadonlyArray<ParkedRecord> {
    return Array.from(this.#kept.values(), ({ dueAt, key, record: { offset } }) => ({ offset, key, dueAt }))
      .filter(({ offset }) => offset > after)
      .sort((a, b) => a.offset - b.offset)
      .slice(0, max)
  }

  read(offsets: ReadonlyArray<number>): ReadonlyArray<ClaimedRecord> {
    return offsets.flatMap((offset) => {
      const kept = this.#kept.get(offset)
      return kept === undefined ? [] : [{ ...kept.record, attempts: kept.attempts }]
    })
  }

  store(all: ReadonlyArray<KeptAside>): Effect.Effect<void, TransportError> {
    const outgoing = all.map(({ attempts, dueAt, record }) =>
      encode(this.#group, record, {
        ...(dueAt === undefined ? {} : { [names.dueAt]: `${dueAt}` }),
        ...(attempts === undefined ? {} : { [names.attempts]: `${attempts.claims}/${attempts.failures}` })
      })
    )
    return Effect.map(this.#send("park", outgoing), () => {
      for (const kept of all) this.#kept.set(kept.record.offset, kept)
    })
  }

  forget(offsets: ReadonlyArray<number>): Effect.Effect<void, TransportError> {
    const outgoing = offsets.map((offset) => tombstone(this.#group, { partition: this.#partition, offset }))
    return Effect.map(this.#send("settle", outgoing), () => {
      for (const offset of offsets) this.#kept.delete(offset)
    })
  }

  #send(operation: string, outgoing: ReadonlyArray<Outgoing>): Effect.Effect<void, TransportError> {
    return Effect.andThen(
      declare(this.#cluster, this.#topic, compacted),
      this.#producer.send(
        operation,
        this.#topic.name,
        outgoing.map((each) => ({ ...each, partition: this.#partition }))
      )
    )
  }
}

const numberOf = (text: string | undefined): number | undefined => (text === undefined ? undefined : Number(text))

const attemptsOf = (text: string | undefined): Attempts | undefined => {
  if (text === undefined) return undefined
  const [claims, failures] = text.split("/").map(Number)
  return { claims: claims!, failures: failures! }
}
