/**
 * A real Apache Kafka for tests and demos: one node that is broker and
 * controller, on 127.0.0.1, on free ports.
 *
 * Its data is in the directory for temporary files, and is gone with the broker
 * when the layer's scope closes, and also when the process dies of Ctrl-C or
 * `kill -9`. Where `KAFKA_BOOTSTRAP_SERVERS` is set, `layer` uses that cluster.
 *
 * Known limits: unlike PostgreSQL, a broker does not come with `npm install`.
 * `npm run kafka:setup` fetches it, and the client's native binary, once; without
 * them `unavailable` says why. An embedded broker needs Java 17 or newer, and
 * does not run on Windows.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import { Broker, type BrokerOptions } from "./internal/kafka/broker.ts"
import { linkClient, missingBroker } from "./internal/kafka/cache.ts"
import { answers } from "./internal/kafka/ready.ts"
import { TestKafkaError } from "./TestKafkaError.ts"

/**
 * How a broker is stopped: `clean` writes everything down, `hard` is a
 * `kill -9`, after which the next start recovers.
 *
 * @category models
 * @since 0.1.0
 */
export type StopMode = "clean" | "hard"

/**
 * Options of an embedded broker.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Of the broker; a free one where it is not given. */
  readonly port?: number | undefined
  /** Settings, as in `server.properties`: `{ "message.max.bytes": "2000000" }`. */
  readonly settings?: Readonly<Record<string, string>> | undefined
  /** Demands SASL/PLAIN with these credentials. */
  readonly sasl?: { readonly username: string; readonly password: string } | undefined
  /** Demands TLS, with a key of its own, which is made for it: `TestKafka.certificate` says whom to trust. */
  readonly tls?: boolean | undefined
  /**
   * More listeners, each of which tells its clients to come back to one of these
   * ports of 127.0.0.1: those of proxies that a test can cut.
   */
  readonly advertised?: ReadonlyArray<number> | undefined
}

/**
 * A Kafka cluster.
 *
 * @category services
 * @since 0.1.0
 */
export class TestKafka extends Context.Service<
  TestKafka,
  {
    readonly bootstrapServers: string
    /** The ports behind `Options.advertised`, in their order: where proxies connect to. */
    readonly listeners: ReadonlyArray<number>
    /** Whom its clients must trust, in PEM, where it demands TLS. */
    readonly certificate: string | undefined
    /** Whether the broker is ours to stop. */
    readonly embedded: boolean
    /** Stops the broker, and returns when it has exited. Its ports and data are kept. */
    readonly stop: (mode: StopMode) => Effect.Effect<void, TestKafkaError>
    /** Starts the broker again, and returns when it answers. */
    readonly start: Effect.Effect<void, TestKafkaError>
    readonly restart: (mode: StopMode) => Effect.Effect<void, TestKafkaError>
  }
>()("@surety/testing/TestKafka") {}

/**
 * Why `layer` would fail on this machine, or undefined when it would not. Makes
 * the client's binary of `npm run kafka:setup` known to its package.
 *
 * @category accessors
 * @since 0.1.0
 */
export const unavailable = (): string | undefined =>
  linkClient() ?? (process.env.KAFKA_BOOTSTRAP_SERVERS === undefined ? missingBroker() : undefined)

const notSetUp = (missing: string | undefined) =>
  missing === undefined
    ? Effect.void
    : Effect.fail(new TestKafkaError({ reason: "NotSetUp", message: `No Kafka on this machine: ${missing}.` }))

const failed = (cause: unknown) =>
  cause instanceof TestKafkaError
    ? cause
    : new TestKafkaError({ reason: "StartFailed", message: `The broker could not be started: ${cause}`, cause })

const unreachable = (servers: string, cause: unknown) =>
  new TestKafkaError({ reason: "Unreachable", message: `Kafka at ${servers} does not answer: ${cause}`, cause })

/** By the client's own metadata, not by a line of a log. */
const ready = (broker: Broker, servers: string, sasl: Options["sasl"]): Effect.Effect<void, TestKafkaError> =>
  Effect.tryPromise({
    try: () => answers(servers, { sasl, ca: broker.certificate }),
    catch: (cause) => unreachable(servers, cause)
  }).pipe(
    Effect.retry({
      schedule: Schedule.spaced("100 millis"),
      times: 300,
      while: () => broker.running
    }),
    Effect.mapError((error) =>
      broker.running
        ? error
        : new TestKafkaError({ reason: "StartFailed", message: `The broker ended while it started:\n${broker.tail}` })
    )
  )

/**
 * An embedded broker with options, whether or not `KAFKA_BOOTSTRAP_SERVERS` is
 * set.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: Options): Layer.Layer<TestKafka, TestKafkaError> =>
  Layer.effect(
    TestKafka,
    Effect.gen(function* () {
      yield* notSetUp(linkClient() ?? missingBroker())
      const broker = yield* Effect.acquireRelease(
        Effect.tryPromise({ try: () => Broker.make(options satisfies BrokerOptions), catch: failed }),
        (broker) => Effect.promise(() => broker.stop("hard").finally(() => broker.remove()))
      )
      const bootstrapServers = `127.0.0.1:${broker.port}`
      const start = Effect.andThen(
        Effect.try({ try: () => broker.start(), catch: failed }),
        ready(broker, bootstrapServers, options.sasl)
      )
      const stop = (mode: StopMode) => Effect.tryPromise({ try: () => broker.stop(mode), catch: failed })
      yield* start
      return TestKafka.of({
        bootstrapServers,
        listeners: broker.listeners.slice(1).map(({ port }) => port),
        certificate: broker.certificate,
        embedded: true,
        stop,
        start,
        restart: (mode) => Effect.andThen(stop(mode), start)
      })
    })
  )

/**
 * An embedded broker, whether or not `KAFKA_BOOTSTRAP_SERVERS` is set.
 *
 * **When to use**
 *
 * Use in a test that stops or restarts its broker.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerEmbedded: Layer.Layer<TestKafka, TestKafkaError> = layerWith({})

const notEmbedded = Effect.fail(
  new TestKafkaError({
    reason: "NotEmbedded",
    message: "The cluster of KAFKA_BOOTSTRAP_SERVERS is not ours to stop: use TestKafka.layerEmbedded for one that is."
  })
)

const layerServers = (bootstrapServers: string): Layer.Layer<TestKafka, TestKafkaError> =>
  Layer.effect(
    TestKafka,
    Effect.gen(function* () {
      yield* notSetUp(linkClient())
      yield* Effect.tryPromise({
        try: () => answers(bootstrapServers),
        catch: (cause) => unreachable(bootstrapServers, cause)
      })
      return TestKafka.of({
        bootstrapServers,
        listeners: [],
        certificate: undefined,
        embedded: false,
        stop: () => notEmbedded,
        start: notEmbedded,
        restart: () => notEmbedded
      })
    })
  )

/**
 * The cluster of `KAFKA_BOOTSTRAP_SERVERS` where that is set, an embedded broker
 * where it is not.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<TestKafka, TestKafkaError | Config.ConfigError> = Layer.unwrap(
  Effect.map(Config.option(Config.String("KAFKA_BOOTSTRAP_SERVERS")), (servers) =>
    servers._tag === "Some" ? layerServers(servers.value) : layerEmbedded
  )
)
