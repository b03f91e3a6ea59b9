/** All workloads, in the order of the table. */
import type { Workload } from "../workload.ts"
import { backlog } from "./backlog.ts"
import { consume } from "./consume.ts"
import { consumeOrdered } from "./consumeOrdered.ts"
import { exactlyOnceBatch } from "./exactlyOnceBatch.ts"
import { exactlyOnceEach } from "./exactlyOnceEach.ts"
import { kafkaWorkloads } from "./kafka.ts"
import { latency } from "./latency.ts"
import { processes } from "./processes.ts"
import { publishBatches } from "./publishBatches.ts"
import { publishEach } from "./publishEach.ts"
import { publishInTransaction } from "./publishInTransaction.ts"
import { snapshot } from "./snapshot.ts"
import { soak } from "./soak.ts"

export const workloads: ReadonlyArray<Workload> = [
  publishEach,
  publishInTransaction,
  publishBatches,
  consume,
  consumeOrdered,
  exactlyOnceEach,
  exactlyOnceBatch,
  latency,
  snapshot,
  backlog,
  processes,
  soak,
  ...kafkaWorkloads
]
