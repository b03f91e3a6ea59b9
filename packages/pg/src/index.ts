/**
 * @since 0.1.0
 */
export * as PgDeadLetters from "./PgDeadLetters.ts"
export * as PgInbox from "./PgInbox.ts"
export * as PgOutbox from "./PgOutbox.ts"
export * as PgSchema from "./PgSchema.ts"
export { PgSchemaError } from "./PgSchemaError.ts"
export * as PgTransport from "./PgTransport.ts"
export * as SuretyPg from "./SuretyPg.ts"
