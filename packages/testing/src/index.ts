/**
 * Import the modules by their paths (`@surety/testing/TestPostgres`): each needs
 * other optional peers, and this file none.
 *
 * @since 0.1.0
 */
export { TestKafkaError } from "./TestKafkaError.ts"
export { TestPostgresError } from "./TestPostgresError.ts"
