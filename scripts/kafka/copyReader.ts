/** Reads the copy with the bare client, committed records only, and counts. */
import client from "@confluentinc/kafka-javascript"
import { partitions } from "./copyTopics.ts"

export class Reader {
  readonly #consumer: InstanceType<typeof client.KafkaConsumer>
  readonly #next = new Map<string, number>()
  readonly #seen = new Set<string>()
  #stopped = false
  /** Distinct messages. */
  read = 0
  duplicated = 0
  misordered = 0

  private constructor(servers: string, group: string) {
    this.#consumer = new client.KafkaConsumer(
      {
        "bootstrap.servers": servers,
        "group.id": group,
        "enable.auto.commit": false,
        "isolation.level": "read_committed",
        log_level: 0
      } as never,
      { "auto.offset.reset": "earliest" }
    )
  }

  static async start(servers: string, topic: string, group: string): Promise<Reader> {
    const reader = new Reader(servers, group)
    const consumer = reader.#consumer
    // What the broker's ends make it say.
    consumer.on("event.error", () => {})
    await new Promise<void>((resolve, reject) =>
      consumer.connect({ timeout: 30_000 }, (error) => (error ? reject(error) : resolve()))
    )
    consumer.setDefaultConsumeTimeout(100)
    consumer.assign(Array.from({ length: partitions }, (_, partition) => ({ topic, partition, offset: 0 })))
    reader.#poll()
    return reader
  }

  #poll(): void {
    this.#consumer.consume(2_000, (error, messages) => {
      if (error === null || error === undefined) for (const { value } of messages) this.#take(JSON.parse(`${value}`))
      if (this.#stopped) this.#consumer.disconnect()
      else setImmediate(() => this.#poll())
    })
  }

  #take({ key, number }: { readonly key: string; readonly number: number }): void {
    const name = `${key}/${number}`
    if (this.#seen.has(name)) {
      this.duplicated++
      return
    }
    this.#seen.add(name)
    this.read++
    const next = this.#next.get(key) ?? 0
    if (number < next) this.misordered++
    this.#next.set(key, Math.max(next, number + 1))
  }

  /** Resolves once so many messages were read; rejects where that does not come about for a minute. */
  async until(count: number): Promise<void> {
    let last = this.read
    let since = Date.now()
    while (this.read < count) {
      await new Promise((resolve) => setTimeout(resolve, 50))
      if (this.read !== last) {
        last = this.read
        since = Date.now()
      } else if (Date.now() - since > 90_000) {
        throw new Error(`only ${this.read} of ${count} messages came, and no more for 90 seconds`)
      }
    }
  }

  stop(): void {
    this.#stopped = true
  }
}
