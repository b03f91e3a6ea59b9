/** What customers do in a run: they order, and look at pages. */
import type { Order } from "./topics.ts"

const products = ["chair", "desk", "lamp", "shelf"]
const depots = ["north", "south", "west"]

export const orders: ReadonlyArray<Order> = Array.from({ length: 240 }, (_, index) => ({
  id: `order-${index}`,
  product: products[index % products.length]!,
  quantity: 1 + (index % 5),
  depot: depots[index % depots.length]!
}))

/** How many pieces of each product are ordered. */
export const demand: ReadonlyMap<string, number> = new Map(
  products.map((product) => [
    product,
    orders.reduce((sum, order) => (order.product === product ? sum + order.quantity : sum), 0)
  ])
)

/** In stock at first: enough of everything, but half of the desks. */
export const firstDelivery = new Map(
  Array.from(demand, ([product, pieces]) => [product, product === "desk" ? Math.floor(pieces / 2) : pieces + 10])
)

/** The other desks. */
export const secondDelivery = new Map([["desk", demand.get("desk")! - firstDelivery.get("desk")! + 10]])

export const views: ReadonlyArray<{ readonly path: string }> = Array.from({ length: 600 }, (_, index) => ({
  path: `/${products[index % products.length]}`
}))
