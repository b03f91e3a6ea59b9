/**
 * What a layer says of itself: the parts of which `Explain` derives what holds
 * from end to end.
 *
 * A backend describes its transport, inbox and outbox with these; programs read
 * them in an `Explanation`. All of it is plain data.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/**
 * What may become of a message, or of its covered effects, where a promise does
 * not hold:
 *
 * - `loss`: it was acknowledged, and a group neither handles it nor finds it in
 *   its dead letters;
 * - `repetition`: its effects take place more than once.
 *
 * @category models
 * @since 0.1.0
 */
export const Flaw = Schema.Literals(["loss", "repetition"])

/**
 * What may become of a message where a promise does not hold.
 *
 * @category models
 * @since 0.1.0
 */
export type Flaw = typeof Flaw.Type

/**
 * Something that a layer does not promise.
 *
 * @category models
 * @since 0.1.0
 */
export const Gap = Schema.Struct({
  allows: Flaw,
  /** When it happens, as a clause: "the process ends". */
  when: Schema.String,
  /** The layer, or the setting, that would close it. */
  raisedBy: Schema.String
}).annotate({ identifier: "Gap" })

/**
 * Something that a layer does not promise.
 *
 * @category models
 * @since 0.1.0
 */
export type Gap = typeof Gap.Type

/**
 * Something that a layer takes for granted. Where it does not hold, it is a
 * gap.
 *
 * @category models
 * @since 0.1.0
 */
export const Assumption = Schema.Struct({
  /** What is taken for granted, as a clause: "synchronous_commit is not off". */
  holds: Schema.String,
  /**
   * How the layer knows: it has asked the server (`read`), it asks when the app
   * starts and refuses what does not hold (`checked at start`), it was told by
   * the client's options (`configured`), or it does not know (`not checked`).
   */
  known: Schema.Literals(["read", "checked at start", "configured", "not checked"]),
  /** What is possible where it does not hold. */
  otherwise: Flaw,
  /** The layer, or the setting, without which it need not be assumed. */
  raisedBy: Schema.String
}).annotate({ identifier: "Assumption" })

/**
 * Something that a layer takes for granted.
 *
 * @category models
 * @since 0.1.0
 */
export type Assumption = typeof Assumption.Type

/**
 * How long something is kept: for ever, or so many milliseconds.
 *
 * @category models
 * @since 0.1.0
 */
export const Retention = Schema.Union([Schema.Literal("forever"), Schema.Struct({ millis: Schema.Number })]).annotate({
  identifier: "Retention"
})

/**
 * How long something is kept: for ever, or so many milliseconds.
 *
 * @category models
 * @since 0.1.0
 */
export type Retention = typeof Retention.Type

/**
 * A layer, in its own words.
 *
 * @category models
 * @since 0.1.0
 */
export const Part = Schema.Struct({
  /** As it is written in a program: `PgInbox.layer`. */
  layer: Schema.String,
  /** What it promises, in a sentence. */
  promise: Schema.String,
  gaps: Schema.Array(Gap),
  assumptions: Schema.Array(Assumption),
  /** What may be observed although no promise is broken. */
  possible: Schema.Array(Schema.String)
}).annotate({ identifier: "Part" })

/**
 * A layer, in its own words.
 *
 * @category models
 * @since 0.1.0
 */
export type Part = typeof Part.Type
