/** What the processes of the demo say to each other. */
import { type Codec, Topic } from "@surety/core"
import { Schema } from "effect"

const Login = Schema.Struct({ login: Schema.String })

/** What this program understands of a delivery: of the 58 kinds of events, the parts that it needs. */
export const Delivery = Schema.Struct({
  action: Schema.optionalKey(Schema.String),
  repository: Schema.optionalKey(Schema.Struct({ full_name: Schema.String })),
  organization: Schema.optionalKey(Login),
  sender: Schema.optionalKey(Login)
})
export type Delivery = typeof Delivery.Type

/** What an event is about: a repository; where there is none, an organization or an account. */
export const subjectOf = ({ organization, repository, sender }: Delivery): string =>
  repository?.full_name ?? organization?.login ?? sender?.login ?? "github"

const name = "github-deliveries"

/** The deliveries, as the workers see them. A body that this schema refuses goes to the dead letters. */
export const Deliveries = Topic.make(name, { schema: Delivery, guarantee: "exactly-once" })

/** The same messages, consumed with a weaker guarantee: see `--without-inbox`. */
export const DeliveriesAtLeastOnce = Topic.make(name, { schema: Delivery, guarantee: "at-least-once" })

/** The same topic, as the receiver publishes to it: the body of the request, unread. */
export const Bodies = Topic.make(name, { schema: Schema.String, guarantee: "exactly-once" })

/**
 * Stores a body as it came. It is JSON already, and its bytes are what GitHub
 * signed: what is found in the dead letters can still be verified.
 */
export const bodyCodec: Codec.Codec = {
  contentType: "application/json",
  encode: (body) => new TextEncoder().encode(Schema.decodeUnknownSync(Schema.String)(body)),
  decode: (bytes) => new TextDecoder().decode(bytes)
}

/** Headers of a message: the kind of event, and when its request arrived, in milliseconds. */
export const eventHeader = "x-github-event"
export const arrivedHeader = "x-arrived-at"

/** One for each delivery that was applied, published in the same transaction. */
export const Summaries = Topic.make("github-summaries", {
  schema: Schema.Struct({ delivery: Schema.String, event: Schema.String, subject: Schema.String }),
  guarantee: "at-least-once",
  key: (summary) => summary.subject
})
