/** Reads a partition from its beginning to its end, in no group. */
import type { TransportError } from "@surety/core/TransportError"
import * as Effect from "effect/Effect"
import { type Cluster, connect, create } from "./cluster.ts"
import { connectFailed, failure } from "./errors.ts"
import { type Client, type Consumer, call } from "./librdkafka.ts"

const beginning = -2

export const readAll = (
  cluster: Cluster,
  topic: string,
  each: (message: Client.Message) => void,
  partition = 0
): Effect.Effect<void, TransportError> =>
  Effect.gen(function* () {
    const reader = yield* create(
      () =>
        new cluster.library.KafkaConsumer(
          {
            ...cluster.connection,
            "group.id": "surety-reader",
            "isolation.level": "read_committed",
            "enable.auto.commit": false,
            "enable.partition.eof": true
          } as never,
          { "auto.offset.reset": "earliest" } as never
        ) as Consumer
    ).pipe(
      Effect.flatMap((made) => connect(made, 30_000)),
      Effect.mapError(connectFailed("read", topic))
    )
    reader.setDefaultConsumeTimeout(50)
    reader.setDefaultIsTimeoutOnlyForFirstMessage(true)
    let ended = false
    reader.on("partition.eof", () => {
      ended = true
    })
    reader.assign([{ topic, partition, offset: beginning }])
    yield* call<Array<Client.Message>>(reader, (callback) => reader.consume(1_000, callback as never)).pipe(
      Effect.uninterruptible,
      Effect.map((messages) => {
        for (const message of messages) each(message)
        return ended
      }),
      Effect.repeat({ until: (done) => done }),
      Effect.mapError(failure("read", topic))
    )
    reader.unassign()
  }).pipe(Effect.scoped)
