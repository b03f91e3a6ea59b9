import * as Metric from "effect/Metric"

const published = Metric.counter("surety.published", {
  description: "Messages that publish has returned for",
  incremental: true
})
const handled = Metric.counter("surety.handled", { description: "Messages settled by a handler", incremental: true })
const duplicates = Metric.counter("surety.duplicates", {
  description: "Messages settled without a handler, since their ids were settled before",
  incremental: true
})
const failedAttempts = Metric.counter("surety.failed_attempts", {
  description: "Attempts that failed",
  incremental: true
})
const retries = Metric.counter("surety.retries", {
  description: "Retries that are waited for under the lease",
  incremental: true
})
const redeliveries = Metric.counter("surety.redeliveries", {
  description: "Retries that are kept aside in the store",
  incremental: true
})
const discarded = Metric.counter("surety.discarded", { description: "Messages that were discarded", incremental: true })
const deadLetters = Metric.counter("surety.dead_letters", {
  description: "Messages that were dead-lettered",
  incremental: true
})
const inFlight = Metric.gauge("surety.in_flight", { description: "Handlers that are running" })
const duration = Metric.timer("messaging.process.duration", { description: "How long attempts take" })
const lag = Metric.gauge("surety.lag", {
  description: "Messages that a group has not settled, the parked ones included"
})
const parked = Metric.gauge("surety.parked", { description: "Messages that are kept aside until they are due" })

export const publishedOf = (topic: string) => Metric.withAttributes(published, { "messaging.destination.name": topic })

const ofGroup = (topic: string, group: string) => ({
  "messaging.destination.name": topic,
  "messaging.consumer.group.name": group
})

/** How far a group is on one partition. */
export const ofPartition = (topic: string, group: string, partition: number) => {
  const attributes = { ...ofGroup(topic, group), "messaging.destination.partition.id": `${partition}` }
  return { lag: Metric.withAttributes(lag, attributes), parked: Metric.withAttributes(parked, attributes) }
}

/** The metrics of one consumer. */
export const ofConsumer = (topic: string, group: string) => {
  const attributes = ofGroup(topic, group)
  return {
    handled: Metric.withAttributes(handled, attributes),
    duplicates: Metric.withAttributes(duplicates, attributes),
    failedAttempts: Metric.withAttributes(failedAttempts, attributes),
    retries: Metric.withAttributes(retries, attributes),
    redeliveries: Metric.withAttributes(redeliveries, attributes),
    discarded: Metric.withAttributes(discarded, attributes),
    deadLetters: Metric.withAttributes(deadLetters, attributes),
    inFlight: Metric.withAttributes(inFlight, attributes),
    duration: Metric.withAttributes(duration, attributes)
  }
}
