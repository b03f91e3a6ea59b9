import type { Workload } from "../workload.ts"
import { consuming } from "./consuming.ts"

export const exactlyOnceBatch: Workload = {
  name: "exactly-once-batch",
  rows: [
    {
      title: "exactly-once, one set-based UPDATE per batch",
      unit: "messages/s",
      better: "more",
      bars: [
        { of: "peer", at: "least", value: 6 },
        { of: "limit", at: "least", value: 0.9 }
      ]
    }
  ],
  run: (opened, database, size) => consuming(opened.exactlyOnceBatch, opened, database, size, { applied: true })
}
