/** Whether a cluster answers, asked by the client itself. */
import type { Sasl } from "./settings.ts"

export const answers = async (servers: string, sasl?: Sasl): Promise<void> => {
  const { default: client } = await import("@confluentinc/kafka-javascript")
  const producer = new client.Producer({
    "bootstrap.servers": servers,
    log_level: 0,
    ...(sasl === undefined
      ? {}
      : {
          "security.protocol": "sasl_plaintext",
          "sasl.mechanisms": "PLAIN",
          "sasl.username": sasl.username,
          "sasl.password": sasl.password
        })
  })
  producer.on("event.error", () => {})
  await new Promise<void>((resolve, reject) =>
    producer.connect({ timeout: 2_000, allTopics: true }, (error, metadata) =>
      error === undefined || error === null ? (metadata.brokers.length > 0 ? resolve() : reject(error)) : reject(error)
    )
  ).finally(() => producer.disconnect())
}
