import type { Row, Workload } from "../workload.ts"
import { delivering } from "./delivering.ts"

const row = (suffix: string): Row => ({
  suffix,
  title: `publish to handled, 100 messages/s, ${suffix}`,
  unit: "ms",
  better: "less",
  bars: [{ of: "peer", at: "most", value: 1 }]
})

export const latency: Workload = {
  name: "latency",
  rows: [row("p50"), row("p99")],
  run: ({ deliver }, _database, size) => deliver && { settings: deliver.settings, measure: delivering(deliver, size) }
}
