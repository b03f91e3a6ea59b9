import type { Workload } from "../workload.ts"
import { publishing } from "./publishing.ts"

export const publishBatches: Workload = {
  name: "publish-batch",
  rows: [
    {
      title: "publish, batches of 1,000",
      unit: "messages/s",
      better: "more",
      bars: [{ of: "peer", at: "least", value: 2.5 }]
    }
  ],
  run: (opened, _database, size) => publishing(opened.publishBatches, size)
}
