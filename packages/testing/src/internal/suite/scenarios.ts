/** All tests of the suite, by what they are about. */
import { atMostOnce } from "./atMostOnce.ts"
import { delivery } from "./delivery.ts"
import { failures } from "./failures.ts"
import { fencing } from "./fencing.ts"
import { nodes } from "./nodes.ts"
import { records } from "./records.ts"
import { redelivery } from "./redelivery.ts"
import type { Scenario } from "./scenario.ts"
import { units } from "./units.ts"

export const scenarios = {
  delivery,
  records,
  "at most once": atMostOnce,
  "units of work": units,
  failures,
  redelivery,
  nodes,
  fencing
} satisfies Record<string, ReadonlyArray<Scenario>>
