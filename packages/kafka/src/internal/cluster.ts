/** What the clients of one cluster share: settings, and a client for administration. */
import { explaining } from "@surety/core/Backend"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as RcMap from "effect/RcMap"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type { Options, Sasl, Tls } from "../KafkaClient.ts"
import { KafkaClientError } from "../KafkaClientError.ts"
import { type Client, type Consumer, end, type KafkaError, type Library, load, share } from "./librdkafka.ts"

export interface Cluster {
  readonly library: Library
  readonly admin: Client.IAdminClient
  /**
   * Clients that ask what a group has committed, by its `group.id`, of which they are no members (rule 14: asked for
   * that, the client for administration ends the process when the group's broker is not there yet).
   */
  readonly readers: RcMap.RcMap<string, Consumer, KafkaClientError>
  /** Settings of the client library for every client. */
  readonly connection: Readonly<Record<string, string | number | boolean>>
  readonly createTopics: Exclude<Options["createTopics"], undefined>
  readonly maxRecordBytes: number
  readonly sessionMillis: number
  readonly rebalanceMillis: number
  readonly groupId: (group: string, topic: string) => string
  readonly outOfRange: "earliest" | "fail"
  /** Partitions of the topics that are known to exist, by their names. */
  readonly topics: Map<string, number>
}

const tlsSettings = ({ ca, certificate, key, keyPassword }: Tls) => ({
  ...(ca === undefined ? {} : { "ssl.ca.pem": ca }),
  ...(certificate === undefined ? {} : { "ssl.certificate.pem": certificate }),
  ...(key === undefined ? {} : { "ssl.key.pem": Redacted.value(key) }),
  ...(keyPassword === undefined ? {} : { "ssl.key.password": Redacted.value(keyPassword) })
})

const saslSettings = ({ mechanism, password, username }: Sasl) => ({
  "sasl.mechanisms": mechanism,
  "sasl.username": username,
  "sasl.password": Redacted.value(password)
})

const connectionOf = ({ bootstrapServers, clientId, sasl, tls = false }: Options) => ({
  "bootstrap.servers": bootstrapServers,
  "client.id": clientId ?? "surety",
  "security.protocol": `${sasl === undefined ? "" : "sasl_"}${tls === false ? "plaintext" : "ssl"}`,
  ...(typeof tls === "object" ? tlsSettings(tls) : {}),
  ...(sasl === undefined ? {} : saslSettings(sasl)),
  // The first connection after an outage is tried soon.
  "reconnect.backoff.max.ms": 2_000,
  // A connection that has fallen silent.
  "socket.timeout.ms": 10_000,
  // What the client has to say comes as errors of operations.
  log_level: 0
})

const millis = (duration: Duration.Input | undefined, otherwise: Duration.Input) =>
  Duration.toMillis(Duration.fromInputUnsafe(duration ?? otherwise))

const refused = (cause: KafkaError) =>
  new KafkaClientError({
    reason: "Refused",
    message: `the connection is refused: ${cause.message}; check the credentials, the certificates, and whether the cluster wants TLS`,
    cause
  })

/** What a producer was handed without waiting for it has this long to leave. */
const flushMillis = 2_000

const disconnect = (client: Client.Client<any>, done: () => void) =>
  "flush" in client ? client.disconnect(flushMillis, done) : client.disconnect(done)

/** A consumer calls back when it is asked for messages, of which it has none by then. Not to be interrupted (rule 13). */
const serve = (client: Client.Client<any>): Effect.Effect<void> =>
  "consume" in client
    ? Effect.callback<void>((resume) => (client as Client.KafkaConsumer).consume(1, () => resume(Effect.void)))
    : Effect.void

/** Connects a client, and tells refused credentials from a cluster that does not answer. */
export const connect = <C extends Client.Client<any>>(
  client: C,
  timeout: number
): Effect.Effect<C, KafkaClientError, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<C, KafkaClientError>((resume) => {
      let refusal: KafkaError | undefined
      // A producer tells of events when it is polled. The client ends by itself when its connecting fails, and not before.
      const polling = setInterval(() => {
        if ("poll" in client && client.isConnected()) (client as { poll: () => void }).poll()
      }, 50)
      client.on(
        "event.error" as never,
        ((error: KafkaError) => {
          // As an event it has lost its code.
          if (!/authentication failure|ssl error/i.test(error.message) || refusal !== undefined) return
          refusal = error
          clearInterval(polling)
          resume(Effect.fail(refused(error)))
        }) as never
      )
      client.connect({ timeout }, (error: KafkaError | null) => {
        clearInterval(polling)
        if (refusal !== undefined && client.isConnected()) client.disconnect()
        resume(
          error === null || error === undefined
            ? Effect.succeed(client)
            : Effect.fail(
                new KafkaClientError({
                  reason: "Unreachable",
                  message: `no broker of the cluster answers: ${error.message}`,
                  cause: error
                })
              )
        )
      })
    }),
    (client) =>
      Effect.suspend(() =>
        client.isConnected() ? end(client, (done) => disconnect(client, done), serve(client)) : Effect.void
      )
  )

/** Settings that the library does not know, or values that it does not take, throw. */
export const create = <C>(make: () => C): Effect.Effect<C, KafkaClientError> =>
  Effect.try({
    try: make,
    catch: (cause) =>
      new KafkaClientError({ reason: "InvalidSettings", message: `the client refuses its settings: ${cause}`, cause })
  })

export const make = Effect.fnUntraced(function* (
  options: Options
): Effect.fn.Return<Cluster, KafkaClientError, Scope.Scope> {
  const connection = connectionOf(options)
  const settings = {
    connection,
    createTopics: options.createTopics ?? {},
    maxRecordBytes: options.maxRecordBytes ?? 1_000_000,
    sessionMillis: millis(options.sessionTimeout, "45 seconds"),
    rebalanceMillis: millis(options.rebalanceTimeout, "5 minutes"),
    groupId: options.groupId ?? ((group) => group),
    outOfRange: options.outOfRange ?? "earliest",
    topics: new Map<string, number>()
  } as const
  // An explanation needs no cluster, and no client.
  if (yield* explaining) {
    return { ...settings, library: undefined as never, admin: undefined as never, readers: undefined as never }
  }
  const library = yield* load
  const first = yield* connect(yield* create(() => new library.Producer(connection as never)), 30_000)
  // It ends with the client that it works through.
  const admin = yield* create(() => library.AdminClient.createFrom(first))
  share(admin, first)
  const readers = yield* RcMap.make({
    lookup: (groupId: string) =>
      Effect.flatMap(
        create(
          () =>
            new library.KafkaConsumer(
              {
                ...connection,
                "group.id": groupId,
                "enable.auto.commit": false,
                // What open transactions are to add is not waited for.
                "isolation.level": "read_uncommitted"
              } as never,
              {}
            ) as Consumer
        ),
        (reader) => connect(reader, 30_000)
      ),
    idleTimeToLive: "10 seconds"
  })
  return { ...settings, library, admin, readers }
})
