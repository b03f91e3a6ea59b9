/**
 * What a fault has brought to light.
 *
 * @since 0.1.0
 */
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"

/**
 * A flow failed, or its check did, with a fault at one point. `cause` is what
 * failed there.
 *
 * @category errors
 * @since 0.1.0
 */
export class PointFailed extends Schema.TaggedError<PointFailed>("@surety/testing/PointFailed")("PointFailed", {
  /** Which fault, and where. */
  point: Schema.String,
  cause: Schema.Defect()
}) {
  override get message(): string {
    return `${this.point}: ${Predicate.hasProperty(this.cause, "message") ? this.cause.message : this.cause}`
  }
}
