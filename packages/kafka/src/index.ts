/**
 * Surety on Apache Kafka.
 *
 * @since 0.1.0
 */
export * as KafkaClient from "./KafkaClient.ts"
export { KafkaClientError } from "./KafkaClientError.ts"
export * as KafkaDeadLetters from "./KafkaDeadLetters.ts"
export * as KafkaTransactions from "./KafkaTransactions.ts"
export * as KafkaTransport from "./KafkaTransport.ts"
