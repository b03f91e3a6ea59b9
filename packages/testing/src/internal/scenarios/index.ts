/** The scenarios of `npm run simulate`. */
import { failures } from "./failures.ts"
import { guarantees } from "./guarantees.ts"
import { lifecycle } from "./lifecycle.ts"
import { orders } from "./order.ts"
import type { Scenario } from "./scenario.ts"

export const scenarios: ReadonlyArray<Scenario> = [...guarantees, ...failures, ...orders, ...lifecycle]
