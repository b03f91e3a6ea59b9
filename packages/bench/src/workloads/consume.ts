import type { Workload } from "../workload.ts"
import { consuming } from "./consuming.ts"

export const consume: Workload = {
  name: "consume",
  rows: [
    {
      title: "consume, handler does nothing",
      unit: "messages/s",
      better: "more",
      bars: [{ of: "peer", at: "least", value: 2 }]
    }
  ],
  run: (opened, database, size) => consuming(opened.consume, opened, database, size, {})
}
