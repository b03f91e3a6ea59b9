/** Whether a cluster answers, asked by the client itself. */
import type { Sasl } from "./settings.ts"

export interface Access {
  readonly sasl?: Sasl | undefined
  /** The authority that the brokers' certificates are trusted by, in PEM. */
  readonly ca?: string | undefined
}

const settingsOf = ({ ca, sasl }: Access) => ({
  "security.protocol": `${sasl === undefined ? "" : "sasl_"}${ca === undefined ? "plaintext" : "ssl"}`,
  ...(ca === undefined ? {} : { "ssl.ca.pem": ca }),
  ...(sasl === undefined
    ? {}
    : { "sasl.mechanisms": "PLAIN", "sasl.username": sasl.username, "sasl.password": sasl.password })
})

export const answers = async (servers: string, access: Access = {}): Promise<void> => {
  const { default: client } = await import("@confluentinc/kafka-javascript")
  const producer = new client.Producer({
    "bootstrap.servers": servers,
    log_level: 0,
    ...settingsOf(access)
  } as never)
  producer.on("event.error", () => {})
  await new Promise<void>((resolve, reject) =>
    producer.connect({ timeout: 2_000, allTopics: true }, (error, metadata) =>
      error === undefined || error === null ? (metadata.brokers.length > 0 ? resolve() : reject(error)) : reject(error)
    )
  ).finally(() => producer.disconnect())
}
