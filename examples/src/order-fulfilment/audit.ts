/** Whether everything adds up: what was ordered beside what was reserved, and what the carrier took. */
import { Effect } from "effect"
import { demand, firstDelivery, orders, secondDelivery } from "./input.ts"
import * as Tables from "./tables.ts"

/** What is not as it has to be, a line each: none where every order was served once. */
export const discrepancies = Effect.fn("Audit.discrepancies")(function* (parcels: ReadonlyMap<string, string>) {
  const found: Array<string> = []
  for (const { available, product, reserved } of yield* Tables.balances) {
    const delivered = firstDelivery.get(product)! + (secondDelivery.get(product) ?? 0)
    if (reserved !== demand.get(product)) found.push(`${product}: ${demand.get(product)} ordered, ${reserved} reserved`)
    if (available !== delivered - reserved) found.push(`${product}: ${available} left of ${delivered}`)
  }
  const reservations = count(yield* Tables.reserved)
  const shipments = count(parcels.values())
  for (const { id } of orders) {
    if (reservations.get(id) !== 1) found.push(`${id} was reserved ${reservations.get(id) ?? 0} times`)
    if (shipments.get(id) !== 1) found.push(`${id} was shipped ${shipments.get(id) ?? 0} times`)
  }
  return found
})

const count = (ids: Iterable<string>): ReadonlyMap<string, number> => {
  const counts = new Map<string, number>()
  for (const id of ids) counts.set(id, (counts.get(id) ?? 0) + 1)
  return counts
}
