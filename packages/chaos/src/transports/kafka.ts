/**
 * Kafka carries the messages: entries are published to it, and booked with the
 * inbox of the ledger's database; receipts come from there, through an outbox and
 * its relay. The broker is killed, and stopped, again and again.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import { AtLeastOnce, ExactlyOnce } from "@surety/core"
import { KafkaClient, KafkaTransport } from "@surety/kafka"
import { PgDeadLetters, PgInbox, PgOutbox, PgSchema, SuretyPg } from "@surety/pg"
import * as TestKafka from "@surety/testing/TestKafka"
import { Context, Effect, Layer } from "effect"
import { type ChaosTransport, leaseMillis, type Role } from "../transport.ts"
import { sessionsTerminated } from "./pg.ts"

const layerKafka = (env: NodeJS.ProcessEnv) =>
  KafkaTransport.layer({ acks: "all" }).pipe(
    Layer.provide(
      KafkaClient.layer({
        bootstrapServers: env.KAFKA_BOOTSTRAP_SERVERS ?? "",
        sessionTimeout: leaseMillis,
        rebalanceTimeout: "10 seconds"
      })
    )
  )

/** Entries are acknowledged by Kafka itself; whatever a worker publishes is committed with its bookings. */
const layerOf = (role: Role) =>
  role === "publisher"
    ? ExactlyOnce.layer.pipe(
        Layer.provideMerge(AtLeastOnce.layer),
        Layer.provide(Layer.mergeAll(PgInbox.layer, PgOutbox.layer)),
        Layer.provideMerge(PgDeadLetters.layer)
      )
    : SuretyPg.layerAcross({ shards: 2, send: role === "worker" })

export const kafka: ChaosTransport = {
  start: Effect.fnUntraced(function* (url) {
    const { bootstrapServers, restart } = Context.get(yield* Layer.build(TestKafka.layerEmbedded), TestKafka.TestKafka)
    return {
      // Commits of transactions wait in the threads of Node's pool (KAFKA.md, rule 12).
      env: { KAFKA_BOOTSTRAP_SERVERS: bootstrapServers, UV_THREADPOOL_SIZE: "16" },
      restarts: [
        // To its end: the time of the faults may be over in the middle of it.
        { name: "broker killed", inflict: Effect.uninterruptible(restart("hard")) },
        { name: "broker stopped", inflict: Effect.uninterruptible(restart("clean")) }
      ],
      faults: [yield* sessionsTerminated(url)]
    }
  }),
  layer: (role, env) =>
    layerOf(role).pipe(Layer.provideMerge(layerKafka(env)), Layer.provide(PgSchema.layerWith({ lease: leaseMillis }))),
  unsent: Effect.flatMap(PgClient.PgClient, (sql) =>
    Effect.map(
      sql<{ unsent: number }>`SELECT count(*)::integer AS unsent FROM surety.log l JOIN surety.topic t ON t.id = l.topic
        JOIN surety.consumer_group g ON g.topic = t.id
        JOIN surety.cursor c ON c.consumer_group = g.id AND c.partition = l.partition
        WHERE t.name = 'surety.outbox.kafka' AND l.log_offset > c.settled`,
      ([row]) => row!.unsent
    )
  ),
  repeatsReceipts: true
}
