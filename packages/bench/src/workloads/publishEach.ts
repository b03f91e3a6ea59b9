import type { Workload } from "../workload.ts"
import { publishing } from "./publishing.ts"

export const publishEach: Workload = {
  name: "publish-each",
  rows: [
    {
      title: "publish, 64 fibers, one message each",
      unit: "messages/s",
      better: "more",
      bars: [{ of: "peer", at: "least", value: 5 }]
    }
  ],
  run: (opened, _database, size) => publishing(opened.publishEach, size)
}
