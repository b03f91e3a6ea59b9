import * as Metric from "effect/Metric"

const counter = (id: string, description: string, attributes: Metric.Metric.Attributes) =>
  Metric.counter(id, { description, attributes, incremental: true })

export const publishedOf = (topic: string) =>
  counter("surety.published", "Messages that publish has returned for", { "messaging.destination.name": topic })

const ofGroup = (topic: string, group: string) => ({
  "messaging.destination.name": topic,
  "messaging.consumer.group.name": group
})

/** How far a group is on one partition. */
export const ofPartition = (topic: string, group: string, partition: number) => {
  const attributes = { ...ofGroup(topic, group), "messaging.destination.partition.id": `${partition}` }
  return {
    lag: Metric.gauge("surety.lag", {
      description: "Messages that a group has not settled, the parked ones included",
      attributes
    }),
    parked: Metric.gauge("surety.parked", {
      description: "Messages that are kept aside until they are due",
      attributes
    })
  }
}

/** The metrics of one consumer. */
export const ofConsumer = (topic: string, group: string) => {
  const attributes = ofGroup(topic, group)
  return {
    handled: counter("surety.handled", "Messages settled by a handler", attributes),
    duplicates: counter(
      "surety.duplicates",
      "Messages settled without a handler, since their ids were settled before",
      attributes
    ),
    failedAttempts: counter("surety.failed_attempts", "Attempts that failed", attributes),
    retries: counter("surety.retries", "Retries that are waited for under the lease", attributes),
    redeliveries: counter("surety.redeliveries", "Retries that are kept aside in the store", attributes),
    discarded: counter("surety.discarded", "Messages that were discarded", attributes),
    deadLetters: counter("surety.dead_letters", "Messages that were dead-lettered", attributes),
    inFlight: Metric.gauge("surety.in_flight", { description: "Handlers that are running", attributes }),
    duration: Metric.timer("messaging.process.duration", { description: "How long attempts take", attributes })
  }
}
