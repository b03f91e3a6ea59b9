/**
 * Why a Kafka for tests could not be had.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/**
 * A failure to start, reach or control the broker of `TestKafka`.
 *
 * **Details**
 *
 * - `NotSetUp`: the broker's jars, or the client's binary, are not on this machine
 * - `StartFailed`: the broker ended while it started; the message ends with what it printed
 * - `Unreachable`: the broker does not answer
 * - `NotEmbedded`: only an embedded broker can be stopped and started
 *
 * @category errors
 * @since 0.1.0
 */
export class TestKafkaError extends Schema.TaggedError<TestKafkaError>()("TestKafkaError", {
  reason: Schema.Literals(["NotSetUp", "StartFailed", "Unreachable", "NotEmbedded"]),
  message: Schema.String,
  cause: Schema.optionalKey(Schema.Defect())
}) {}
