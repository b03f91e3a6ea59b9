/** The transactional producer of one consumer: made when it is needed, and made again when it is of no use any more (rule 1). */
import type { TransportError } from "@surety/core/TransportError"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type { Cluster } from "./cluster.ts"
import { TransactionalProducer } from "./transactional.ts"

export class Slot {
  readonly #cluster: Cluster
  readonly #topic: string
  readonly #settings: { readonly transactionalId: string; readonly timeoutMillis: number }
  readonly #scope: Scope.Scope
  /** Rule 10: one transaction at a time. */
  readonly #turn = Semaphore.makeUnsafe(1)
  #current: { readonly producer: TransactionalProducer; readonly scope: Scope.Closeable } | undefined

  constructor(
    cluster: Cluster,
    topic: string,
    { name, prefix, timeoutMillis }: { readonly name: string; readonly prefix: string; readonly timeoutMillis: number },
    scope: Scope.Scope
  ) {
    this.#cluster = cluster
    this.#topic = topic
    this.#settings = { transactionalId: `${prefix}.${name}`, timeoutMillis }
    this.#scope = scope
  }

  use<A, E, R>(
    body: (producer: TransactionalProducer) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | TransportError, R> {
    return this.#turn.withPermit(Effect.flatMap(this.#ready, body))
  }

  get #ready(): Effect.Effect<TransactionalProducer, TransportError> {
    return Effect.gen({ self: this }, function* () {
      const current = this.#current
      if (current !== undefined && !current.producer.unusable) return current.producer
      if (current !== undefined) {
        this.#current = undefined
        yield* Scope.close(current.scope, Exit.void)
      }
      const scope = yield* Scope.fork(this.#scope)
      const producer = yield* TransactionalProducer.make(this.#cluster, "begin", this.#topic, this.#settings).pipe(
        Scope.provide(scope),
        Effect.onError(() => Scope.close(scope, Exit.void))
      )
      this.#current = { producer, scope }
      return producer
    }).pipe(Effect.uninterruptible)
  }
}
