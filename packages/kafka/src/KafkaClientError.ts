/**
 * Why there is no connection to a Kafka cluster.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/**
 * A client that could not be made.
 *
 * **Details**
 *
 * - `NotInstalled`: the package `@confluentinc/kafka-javascript`, or its native binary, is missing
 * - `Unreachable`: no broker answered
 * - `Refused`: the brokers refuse the credentials, or their certificate is not trusted
 * - `InvalidSettings`: the client does not take the settings
 *
 * @category errors
 * @since 0.1.0
 */
export class KafkaClientError extends Schema.TaggedError<KafkaClientError>()("KafkaClientError", {
  reason: Schema.Literals(["NotInstalled", "Unreachable", "Refused", "InvalidSettings"]),
  message: Schema.String,
  cause: Schema.optionalKey(Schema.Defect())
}) {}
