/** Three topics, each with the guarantee that its messages need. */
import { Topic } from "@surety/core"
import { Schema } from "effect"

export const Order = Schema.Struct({
  id: Schema.String,
  product: Schema.String,
  quantity: Schema.Int,
  depot: Schema.String
})
export type Order = typeof Order.Type

/** Stock that is reserved twice cannot be sold: an order counts once, however often it is published. */
export const Orders = Topic.make("orders", {
  schema: Order,
  guarantee: "exactly-once",
  id: (order) => order.id,
  key: (order) => order.product // orders of one product are served in turn
})

/** A parcel must go out. Each message has an id of its own, so that one too many would be one parcel too many. */
export const Shipments = Topic.make("shipments", {
  schema: Schema.Struct({ order: Schema.String, depot: Schema.String }),
  guarantee: "at-least-once"
})

/** What customers look at: nice to know, and not worth a wait. */
export const PageViews = Topic.make("page-views", {
  schema: Schema.Struct({ path: Schema.String }),
  guarantee: "at-most-once"
})
