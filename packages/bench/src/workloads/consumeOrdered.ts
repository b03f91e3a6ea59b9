import type { Workload } from "../workload.ts"
import { consuming } from "./consuming.ts"

export const consumeOrdered: Workload = {
  name: "consume-ordered",
  rows: [
    {
      title: "consume in order per key, 1,000 keys",
      unit: "messages/s",
      better: "more",
      bars: [{ of: "peer", at: "least", value: 3 }]
    }
  ],
  run: (opened, database, size) => consuming(opened.consumeOrdered, opened, database, size, { ordered: true })
}
