/** A producer with a transactional id: one transaction at a time, taken to its end whatever happens meanwhile. */
import { OutcomeUnknown, TransportError, type TransportErrorReason, Unavailable } from "@surety/core/TransportError"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { Cluster } from "./cluster.ts"
import type { Offset } from "./commits.ts"
import { connectFailed, failure } from "./errors.ts"
import { type Consumer, call, type KafkaError } from "./librdkafka.ts"
import { type Outgoing, Producer } from "./producer.ts"

export interface TransactionalSettings {
  readonly transactionalId: string
  readonly timeoutMillis: number
}

/** What a transaction commits of a group's progress. */
export interface Settled {
  readonly consumer: Consumer
  readonly offsets: ReadonlyArray<Offset>
  /** Whether the partitions are held still. */
  readonly held: () => boolean
}

export type Send = (topic: string, outgoing: ReadonlyArray<Outgoing>) => Effect.Effect<void, TransportError>

/** It is of no use any more: another producer has its id, or its state is not known (rules 1 and 2). */
export class Unusable {
  readonly _tag = "Unusable"
  readonly cause: KafkaError
  constructor(cause: KafkaError) {
    this.cause = cause
  }
}

/** The transaction did not take place: it may be made again. */
class Aborted {
  readonly _tag = "Aborted"
  readonly cause: KafkaError
  constructor(cause: KafkaError) {
    this.cause = cause
  }
}

/** Rule 2: what is to be done is told by the error's flags. One that has none is the end of the producer. To be interrupted between tries alone. */
const byFlags = (effect: Effect.Effect<void, KafkaError>): Effect.Effect<void, Aborted | Unusable> =>
  Effect.uninterruptible(effect).pipe(
    Effect.retry({
      schedule: Schedule.spaced("100 millis"),
      while: ({ isFatal, isRetriable, isTxnRequiresAbort }) =>
        isRetriable === true && isFatal !== true && isTxnRequiresAbort !== true
    }),
    Effect.mapError((error) =>
      error.isTxnRequiresAbort === true && error.isFatal !== true ? new Aborted(error) : new Unusable(error)
    )
  )

/** How long a function waits for the brokers, in a thread of the pool, before it is called again. */
const patience = 5_000

export class TransactionalProducer {
  readonly #producer: Producer
  readonly #failed: (reason: TransportErrorReason) => TransportError
  readonly #operation: string
  /** Another one has to be made. */
  unusable = false

  private constructor(producer: Producer, operation: string, topic: string) {
    this.#producer = producer
    this.#operation = operation
    this.#failed = (reason) => new TransportError({ operation, topic, reason })
  }

  /** Ends what an earlier producer of the id has left open, and keeps it from going on (rule 1). */
  static make(
    cluster: Cluster,
    operation: string,
    topic: string,
    { timeoutMillis, transactionalId }: TransactionalSettings
  ): Effect.Effect<TransactionalProducer, TransportError, Scope.Scope> {
    return Effect.gen(function* () {
      const producer = yield* Effect.mapError(
        Producer.make(cluster, {
          acks: -1,
          "enable.idempotence": true,
          "transactional.id": transactionalId,
          "transaction.timeout.ms": timeoutMillis,
          "linger.ms": 5,
          "batch.size": 1_000_000
        }),
        connectFailed(operation, topic)
      )
      yield* call<void>(producer.raw, (callback) => producer.raw.initTransactions(patience, callback)).pipe(
        Effect.retry({ times: 2, while: ({ isRetriable }) => isRetriable === true }),
        Effect.mapError(failure(operation, topic))
      )
      return new TransactionalProducer(producer, operation, topic)
    })
  }

  /**
   * Runs `body` in a transaction, which commits if it succeeds, and `settled`
   * with it. A retryable error says that the transaction did not take place; after
   * any other one the producer may be unusable, and so it is after an interrupt
   * while the brokers do not answer.
   */
  run<A, E, R>(
    body: (send: Send) => Effect.Effect<A, E, R>,
    settled: () => Settled | undefined = () => undefined,
    lost: () => TransportError = () =>
      this.#failed(new OutcomeUnknown({ detail: "the transaction's end is not known" }))
  ): Effect.Effect<A, E | TransportError, R> {
    const { raw } = this.#producer
    const send: Send = (topic, outgoing) => this.#producer.hand(this.#operation, topic, outgoing)
    return Effect.uninterruptibleMask((restore) =>
      Effect.gen({ self: this }, function* () {
        const step = (effect: Effect.Effect<void, KafkaError>, unknown?: () => TransportError) =>
          Effect.onInterrupt(restore(this.#step(effect, unknown)), () =>
            Effect.sync(() => {
              this.unusable = true
            })
          )
        yield* step(call<void>(raw, (callback) => raw.beginTransaction(callback)))
        const exit = yield* Effect.exit(restore(body(send)))
        if (Exit.isFailure(exit)) {
          yield* this.#abort
          return yield* exit
        }
        const progress = settled()
        if (progress !== undefined) {
          const { consumer, held, offsets } = progress
          // Rules 3 and 4: the group's metadata is read now; what is no longer held is not sent.
          if (!held()) return yield* Effect.andThen(this.#abort, Effect.fail(lost()))
          yield* step(
            call<void>(
              raw,
              (callback) => raw.sendOffsetsToTransaction(offsets as Array<Offset>, consumer, patience, callback),
              // Rule 13: it must not be disconnected meanwhile.
              consumer
            )
          )
          // Rule 4: had the assignment been lost before, the broker would not have asked.
          if (!held()) return yield* Effect.andThen(this.#abort, Effect.fail(lost()))
        }
        // Rule 7: repeated until its outcome is known, or nobody waits for it any more; never aborted instead.
        yield* step(
          call<void>(raw, (callback) => raw.commitTransaction(patience, callback)),
          lost
        )
        return exit.value
      })
    )
  }

  #step(effect: Effect.Effect<void, KafkaError>, unknown?: () => TransportError): Effect.Effect<void, TransportError> {
    return byFlags(effect).pipe(
      Effect.catch((error) => {
        if (error._tag === "Aborted") {
          const reason = new Unavailable({
            detail: `the transaction was aborted: ${error.cause.message}`,
            cause: error.cause
          })
          return Effect.andThen(this.#abort, Effect.fail(this.#failed(reason)))
        }
        this.unusable = true
        return Effect.fail(
          unknown?.() ??
            this.#failed(
              new Unavailable({ detail: `the transaction was given up: ${error.cause.message}`, cause: error.cause })
            )
        )
      })
    )
  }

  /** One that does not come to its end is left to the producer that has the id next. */
  get #abort(): Effect.Effect<void> {
    return call<void>(this.#producer.raw, (callback) => this.#producer.raw.abortTransaction(patience, callback)).pipe(
      Effect.catch(() =>
        Effect.sync(() => {
          this.unusable = true
        })
      )
    )
  }
}
