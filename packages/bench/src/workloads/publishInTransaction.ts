import type { Workload } from "../workload.ts"
import { publishing } from "./publishing.ts"

export const publishInTransaction: Workload = {
  name: "publish-transaction",
  rows: [
    {
      title: "publish in the user's transaction with a business INSERT, 16 connections",
      unit: "messages/s",
      better: "more",
      bars: [
        { of: "peer", at: "least", value: 1.3 },
        { of: "limit", at: "least", value: 0.9 }
      ]
    }
  ],
  run: (opened, _database, size) => publishing(opened.publishInTransaction, size)
}
