/**
 * The connection to a Kafka cluster, which everything else of this package is
 * made of.
 *
 * It needs the package `@confluentinc/kafka-javascript`, an optional peer with a
 * native binary.
 *
 * Known limits: each consumer and each producer is a client of its own, with
 * connections and threads of its own. Commits and transactions wait in Node's
 * thread pool: with more than a few of them at once set `UV_THREADPOOL_SIZE` to
 * consumers + producers + 8 before Node starts (rule 12).
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as cluster from "./internal/cluster.ts"
import type { KafkaClientError } from "./KafkaClientError.ts"

/**
 * Credentials.
 *
 * @category models
 * @since 0.1.0
 */
export interface Sasl {
  readonly mechanism: "PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512"
  readonly username: string
  readonly password: Redacted.Redacted
}

/**
 * Certificates, in PEM. Without any, the system's authorities are trusted.
 *
 * @category models
 * @since 0.1.0
 */
export interface Tls {
  /** The authorities that are trusted. */
  readonly ca?: string | undefined
  /** The client's own certificate, where the brokers ask for one, and its key. */
  readonly certificate?: string | undefined
  readonly key?: Redacted.Redacted | undefined
  readonly keyPassword?: Redacted.Redacted | undefined
}

/**
 * How to connect.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** `host:port`, separated by commas. Some of the brokers are enough. */
  readonly bootstrapServers: string
  /** What the brokers' logs and quotas call this program. Default `surety`. */
  readonly clientId?: string | undefined
  /** Encrypts the connections. Default: not. */
  readonly tls?: boolean | Tls | undefined
  readonly sasl?: Sasl | undefined
  /** Whether topics that do not exist are created, and how. Default: with the brokers' own defaults. */
  readonly createTopics?:
    | false
    | {
        readonly replicationFactor?: number | undefined
        /** Topic settings: `{ "min.insync.replicas": "2" }`. */
        readonly config?: Readonly<Record<string, string>> | undefined
      }
    | undefined
  /** The largest record, in bytes. Default 1,000,000, a little less than what brokers take by default. */
  readonly maxRecordBytes?: number | undefined
  /** How long a silent member keeps its partitions. Default 45 seconds; the brokers have bounds of their own. */
  readonly sessionTimeout?: Duration.Input | undefined
  /** How long members may take to give back what they are to give back. Default 5 minutes. */
  readonly rebalanceTimeout?: Duration.Input | undefined
  /** The `group.id` of a group of a topic. Default: the group's name. Members of one `group.id` are rebalanced together. */
  readonly groupId?: ((group: string, topic: string) => string) | undefined
  /** What reading goes on with when what a group has not read yet is gone from the log. Default `earliest`. */
  readonly outOfRange?: "earliest" | "fail" | undefined
}

/**
 * A Kafka cluster.
 *
 * @category services
 * @since 0.1.0
 */
export class KafkaClient extends Context.Service<KafkaClient, cluster.Cluster>()("@surety/kafka/KafkaClient") {}

/**
 * Connects, and fails where the cluster does not answer within 30 seconds, or
 * refuses.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<KafkaClient, KafkaClientError> =>
  Layer.effect(KafkaClient, cluster.make(options))

/**
 * The same, with options of the app's configuration:
 * `{ bootstrapServers: Config.String("KAFKA_BOOTSTRAP_SERVERS"), … }`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  options: Config.Wrap<Options>
): Layer.Layer<KafkaClient, KafkaClientError | Config.ConfigError> =>
  Layer.effect(KafkaClient, Effect.flatMap(Config.unwrap(options), cluster.make))
