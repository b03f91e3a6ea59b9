/** Commits of a member's partitions: those that come while one is under way share the next one. */
import { Fenced, TransportError } from "@surety/core/TransportError"
import * as Effect from "effect/Effect"
import { reasonOf } from "./errors.ts"
import { ask, type Client, type Consumer, codes, type KafkaError } from "./librdkafka.ts"

export type Offset = Client.TopicPartitionOffsetAndMetadata

/** Whose offset it is, and whether it still is (rule 3: the broker would not ask). */
export interface Holder {
  readonly partition: number
  readonly epoch: number
  readonly held: boolean
}

interface Pending {
  readonly holder: Holder
  readonly offset: Offset
  readonly resume: (result: Effect.Effect<void, TransportError>) => void
}

const lost = new Set<number>([codes.illegalGeneration, codes.unknownMember, codes.fencedInstance])

/** A partition's come one after the other. */
export class Commits {
  readonly #consumer: Consumer
  readonly #topic: string
  readonly #group: string
  #pending: Array<Pending> = []
  #waiting: ReadonlyArray<Pending> = []
  #answered = () => {}

  constructor(consumer: Consumer, topic: string, group: string) {
    this.#consumer = consumer
    this.#topic = topic
    this.#group = group
  }

  fenced({ epoch, partition }: Holder, operation: string): TransportError {
    const reason = new Fenced({ group: this.#group, partition, epoch })
    return new TransportError({ operation, topic: this.#topic, reason })
  }

  commit(holder: Holder, offset: Offset): Effect.Effect<void, TransportError> {
    return Effect.callback<void, TransportError>((resume) => {
      this.#pending.push({ holder, offset, resume })
      this.#flush()
    })
  }

  /** The partition is another one's: its commits are not waited for, however long the brokers are away. */
  lost(holder: Holder): void {
    for (const pending of [...this.#waiting, ...this.#pending]) {
      if (pending.holder === holder) pending.resume(Effect.fail(this.fenced(holder, "settle")))
    }
  }

  #flush(): void {
    if (this.#waiting.length > 0 || this.#pending.length === 0) return
    const all = this.#pending
    this.#pending = []
    const ours = all.filter(({ holder }) => holder.held)
    for (const { holder, resume } of all) if (!holder.held) resume(Effect.fail(this.fenced(holder, "settle")))
    if (ours.length === 0) return
    this.#waiting = ours
    this.#answered = ask(this.#consumer)
    try {
      this.#consumer.commit(ours.map(({ offset }) => offset))
    } catch (error) {
      this.answered(error as KafkaError)
    }
  }

  /** The brokers' answer to the commit that is under way. That the client has taken it says nothing yet. */
  answered(error: KafkaError | undefined): void {
    const waiting = this.#waiting
    this.#waiting = []
    this.#answered()
    this.#answered = () => {}
    for (const { holder, resume } of waiting) {
      resume(error === undefined ? Effect.void : Effect.fail(this.#errorOf(holder, error)))
    }
    this.#flush()
  }

  #errorOf(holder: Holder, error: KafkaError): TransportError {
    return !holder.held || lost.has(error.code)
      ? this.fenced(holder, "settle")
      : new TransportError({ operation: "settle", topic: this.#topic, reason: reasonOf(error) })
  }
}
