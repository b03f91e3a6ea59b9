/** All tests of the suite, by what they are about. */

import { acrossSystems } from "./acrossSystems.ts"
import { atMostOnce } from "./atMostOnce.ts"
import { batches } from "./batches.ts"
import { crashes } from "./crashes.ts"
import { deadLetters } from "./deadLetters.ts"
import { delivery } from "./delivery.ts"
import { failures } from "./failures.ts"
import { fairness } from "./fairness.ts"
import { fencing } from "./fencing.ts"
import { foreign } from "./foreign.ts"
import { later } from "./later.ts"
import { lifecycle } from "./lifecycle.ts"
import { nodes } from "./nodes.ts"
import { outgoing } from "./outgoing.ts"
import { records } from "./records.ts"
import { redelivery } from "./redelivery.ts"
import type { Scenario } from "./scenario.ts"
import { units } from "./units.ts"

export const scenarios = {
  delivery,
  records,
  "messages of other programs": foreign,
  "at most once": atMostOnce,
  "units of work": units,
  failures,
  redelivery,
  nodes,
  fencing,
  "dead letters": deadLetters,
  outgoing,
  fairness,
  batches,
  lifecycle,
  later,
  "across systems": acrossSystems
} satisfies Record<string, ReadonlyArray<Scenario>>

/** Those that need a store of their own, to crash it. */
export const crashScenarios = { crashes } satisfies Record<string, ReadonlyArray<Scenario>>
