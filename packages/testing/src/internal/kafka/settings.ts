/** One node that is broker and controller, small and quick: the settings of a server for tests. */
export interface Listener {
  readonly port: number
  /** The port that clients are told to use. Default: the same. */
  readonly advertised?: number | undefined
}

export interface Sasl {
  readonly username: string
  readonly password: string
}

/** A key of the broker's own, in a file. */
export interface KeyStore {
  readonly path: string
  readonly password: string
  /** The certificate, in PEM: whoever trusts it trusts the broker. */
  readonly certificate: string
}

export const properties = (options: {
  readonly directory: string
  readonly controllerPort: number
  readonly listeners: ReadonlyArray<Listener>
  readonly sasl: Sasl | undefined
  readonly keyStore: KeyStore | undefined
  readonly settings: Readonly<Record<string, string>>
}): string => {
  const { keyStore, listeners, sasl } = options
  const protocol = `${sasl === undefined ? "" : "SASL_"}${keyStore === undefined ? "PLAINTEXT" : "SSL"}`
  const name = (index: number) => `CLIENT${index}`
  const all = (of: (listener: Listener, index: number) => string) => listeners.map(of)
  const host = "127.0.0.1"
  const entries: Record<string, string> = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.quorum.voters": `1@${host}:${options.controllerPort}`,
    "controller.listener.names": "CONTROLLER",
    listeners: [
      ...all(({ port }, index) => `${name(index)}://${host}:${port}`),
      `CONTROLLER://${host}:${options.controllerPort}`
    ].join(","),
    "advertised.listeners": all(({ advertised, port }, index) => `${name(index)}://${host}:${advertised ?? port}`).join(
      ","
    ),
    "inter.broker.listener.name": name(0),
    "listener.security.protocol.map": [...all((_, index) => `${name(index)}:${protocol}`), "CONTROLLER:PLAINTEXT"].join(
      ","
    ),
    "log.dirs": `${options.directory}/data`,
    "auto.create.topics.enable": "false",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    // Tests publish messages of long ago, which retention would delete at its first look.
    "log.retention.ms": "-1",
    // Tests wait for groups and for transactions of processes that have ended.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    // A broker that was killed is let in again once its session has ended.
    "broker.session.timeout.ms": "1500",
    "broker.heartbeat.interval.ms": "300",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
    "log.cleaner.dedupe.buffer.size": "2097152",
    "num.network.threads": "1",
    "num.io.threads": "4",
    ...(sasl === undefined
      ? {}
      : {
          "sasl.enabled.mechanisms": "PLAIN",
          "sasl.mechanism.inter.broker.protocol": "PLAIN",
          "listener.name.client0.plain.sasl.jaas.config": `org.apache.kafka.common.security.plain.PlainLoginModule required username="${sasl.username}" password="${sasl.password}" user_${sasl.username}="${sasl.password}";`
        }),
    ...(keyStore === undefined
      ? {}
      : {
          "ssl.keystore.location": keyStore.path,
          "ssl.keystore.password": keyStore.password,
          // It is a client of its own.
          "ssl.truststore.location": keyStore.path,
          "ssl.truststore.password": keyStore.password
        }),
    ...options.settings
  }
  return Object.entries(entries)
    .map(([key, value]) => `${key}=${value}\n`)
    .join("")
}

export const logging = `status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %c{1} %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
`
