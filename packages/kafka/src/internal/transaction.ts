/** The Kafka transaction that the calling fiber is in. */
import type { TransportError } from "@surety/core/TransportError"
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { Holder, Offset } from "./commits.ts"
import type { Consumer } from "./librdkafka.ts"
import type { Outgoing } from "./producer.ts"

export interface KafkaTransaction {
  /** The cluster whose transaction it is. */
  readonly store: object
  readonly send: (topic: string, outgoing: ReadonlyArray<Outgoing>) => Effect.Effect<void, TransportError>
  /** The offset is committed with the transaction, which is refused where the partition is no longer held. */
  readonly settle: (consumer: Consumer, holder: Holder, offset: Offset) => void
  /** What is to happen, at once, when it has ended. */
  readonly ended: Array<(committed: boolean) => void>
}

export const CurrentTransaction = Context.Reference<KafkaTransaction | undefined>(
  "@surety/kafka/internal/CurrentTransaction",
  { defaultValue: () => undefined }
)
