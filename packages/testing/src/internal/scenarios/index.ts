/** The scenarios of `npm run simulate`. */
import { corpus } from "./corpus.ts"
import { failures } from "./failures.ts"
import { guarantees } from "./guarantees.ts"
import { lifecycle } from "./lifecycle.ts"
import { orders } from "./order.ts"
import { relays } from "./relay.ts"
import type { Scenario } from "./scenario.ts"

export const scenarios: ReadonlyArray<Scenario> = [...guarantees, ...failures, ...orders, ...lifecycle, ...relays].map(
  (scenario) => ({
    ...scenario,
    options: {
      ...scenario.options,
      corpus: corpus[scenario.name],
      replay: (seed) => `npm run simulate -- --scenario ${scenario.name} --seed ${seed} --runs 1`
    }
  })
)
