/** Producing: a batch is handed over as a whole, and answered by the delivery reports of its records. */
import { Signal, totalBytes } from "@surety/core/Backend"
import type { EncodedRecord, Headers } from "@surety/core/Envelope"
import { TransportError } from "@surety/core/TransportError"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { KafkaClientError } from "../KafkaClientError.ts"
import { type Cluster, connect, create } from "./cluster.ts"
import { failure, outcomeOf } from "./errors.ts"
import { type Client, codes, type KafkaError } from "./librdkafka.ts"
import { encodeHeaders, keyOf, timestampOf } from "./records.ts"

export type Settings = Readonly<Record<string, string | number | boolean>>

/** A record, and the headers of ours that it has beside its id. */
export interface Outgoing {
  readonly record: EncodedRecord
  readonly headers?: Headers | undefined
  /** Default: that of the key. */
  readonly partition?: number | undefined
  /** Of a tombstone nothing but the key counts. */
  readonly tombstone?: boolean | undefined
  /** Whether the limit of records holds for it. Default true. */
  readonly limited?: boolean | undefined
}

/** A batch whose reports are waited for. */
interface Batch {
  open: number
  error: KafkaError | undefined
  readonly done: (error: KafkaError | undefined) => void
}

export class Producer {
  readonly raw: Client.Producer
  readonly #cluster: Cluster
  readonly #delivered = new Signal()

  private constructor(cluster: Cluster, raw: Client.Producer) {
    this.#cluster = cluster
    this.raw = raw
    raw.on("delivery-report", (error, { opaque }) => {
      this.#delivered.notify()
      if (opaque !== undefined) settle(opaque as Batch, error ?? undefined)
    })
  }

  static make(cluster: Cluster, settings: Settings): Effect.Effect<Producer, KafkaClientError, Scope.Scope> {
    return Effect.gen(function* () {
      const raw = yield* create(
        () =>
          new cluster.library.Producer({
            ...cluster.connection,
            // As Kafka's own producers do: producers of other languages agree about the partition of a key.
            partitioner: "murmur2_random",
            // What a record takes on the wire, beside what is counted.
            "message.max.bytes": Math.max(cluster.maxRecordBytes + 64_000, 1_000_000),
            dr_cb: true,
            ...settings
          } as never)
      )
      yield* connect(raw, 30_000)
      raw.setPollInBackground(true)
      return new Producer(cluster, raw)
    })
  }

  /** Hands records over, in their order, as fast as the client's queue takes them (rule 10). */
  #enqueue(operation: string, topic: string, outgoing: ReadonlyArray<Outgoing>, batch: Batch | undefined) {
    return Effect.gen({ self: this }, function* () {
      for (let index = 0; index < outgoing.length; ) {
        const seen = this.#delivered.version
        const { headers, partition, record, tombstone } = outgoing[index]!
        try {
          this.raw.produce(
            topic,
            partition ?? null,
            tombstone === true
              ? null
              : Buffer.from(record.payload.buffer, record.payload.byteOffset, record.payload.length),
            keyOf(record),
            timestampOf(record),
            batch,
            encodeHeaders(record, headers)
          )
          index++
        } catch (error) {
          if ((error as KafkaError).code !== codes.queueFull) {
            // Those before it are on their way.
            return yield* Effect.fail(
              failure(operation, topic, index === 0 ? undefined : outcomeOf)(error as KafkaError)
            )
          }
          yield* this.#delivered.changed(seen)
        }
      }
    })
  }

  /** Checks sizes, so that a batch with a record that would be refused is refused whole. */
  #check(operation: string, topic: string, outgoing: ReadonlyArray<Outgoing>): Effect.Effect<void, TransportError> {
    const records = outgoing.flatMap(({ limited, record }) => (limited === false ? [] : [record]))
    const reason = totalBytes(records, this.#cluster.maxRecordBytes)
    return typeof reason === "number" ? Effect.void : Effect.fail(new TransportError({ operation, topic, reason }))
  }

  /** Returns once the brokers have acknowledged all records, as far as the producer's settings ask them to. */
  send(operation: string, topic: string, outgoing: ReadonlyArray<Outgoing>): Effect.Effect<void, TransportError> {
    if (outgoing.length === 0) return Effect.void
    return Effect.andThen(
      this.#check(operation, topic, outgoing),
      Effect.suspend(() => {
        let report: (error: KafkaError | undefined) => void = () => {}
        const reports = new Promise<KafkaError | undefined>((resolve) => {
          report = resolve
        })
        const batch: Batch = { open: outgoing.length, error: undefined, done: report }
        return this.#enqueue(operation, topic, outgoing, batch).pipe(
          Effect.andThen(Effect.promise(() => reports)),
          Effect.flatMap((error) =>
            error === undefined ? Effect.void : Effect.fail(failure(operation, topic, outcomeOf)(error))
          )
        )
      })
    )
  }

  /** Returns once the client has the records; what becomes of them is not told. */
  hand(operation: string, topic: string, outgoing: ReadonlyArray<Outgoing>): Effect.Effect<void, TransportError> {
    return Effect.andThen(this.#check(operation, topic, outgoing), this.#enqueue(operation, topic, outgoing, undefined))
  }
}

const settle = (batch: Batch, error: KafkaError | undefined): void => {
  batch.error ??= error
  if (--batch.open === 0) batch.done(batch.error)
}
