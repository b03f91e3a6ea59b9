import type { Workload } from "../workload.ts"
import { consuming } from "./consuming.ts"

export const exactlyOnceEach: Workload = {
  name: "exactly-once-each",
  rows: [
    {
      title: "exactly-once, one awaited UPDATE per message",
      unit: "messages/s",
      better: "more",
      bars: [{ of: "peer", at: "least", value: 2 }]
    }
  ],
  run: (opened, database, size) => consuming(opened.exactlyOnceEach, opened, database, size, { applied: true })
}
