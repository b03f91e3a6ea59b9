/** Stores dead letters: at once, or with the transaction of the calling fiber. */
import type { DeadLetter } from "@surety/core/DeadLetters"
import type { TransportError } from "@surety/core/TransportError"
import * as Effect from "effect/Effect"
import type { Cluster } from "./cluster.ts"
import * as letters from "./letters.ts"
import { compacted } from "./placed.ts"
import type { Producer } from "./producer.ts"
import { declare } from "./topics.ts"
import { CurrentTransaction } from "./transaction.ts"

export const deadLetter =
  (cluster: Cluster, producer: Pick<Producer, "send">) =>
  (dead: ReadonlyArray<DeadLetter>): Effect.Effect<void, TransportError> =>
    Effect.gen(function* () {
      const [first] = dead
      if (first === undefined) return
      const topic = letters.declarationOf(first.topic)
      yield* declare(cluster, topic, compacted)
      const transaction = yield* CurrentTransaction
      const outgoing = dead.map(letters.encode)
      yield* transaction === undefined
        ? producer.send("dead-letter", topic.name, outgoing)
        : transaction.send(topic.name, outgoing)
    })
