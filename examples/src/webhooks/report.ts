/** The result, as a table and as JSON. */
import { type Findings, isFine } from "./audit.ts"
import type { Options } from "./options.ts"

export interface Report extends Findings {
  readonly sent: number
  readonly kills: number
  /** From the first request until everything was settled. */
  readonly seconds: number
  readonly latencies: ReadonlyArray<number>
}

export const percentile = (values: ReadonlyArray<number>, p: number): number => {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(sorted.length * p) - 1)] ?? Number.NaN
}

const perSecond = ({ applied, seconds }: Report): number => Math.round(applied / seconds)

const verdict = (report: Report, { withoutInbox }: Options): string => {
  if (isFine(report)) {
    return "Every accepted delivery was applied exactly once, or is in the dead letters."
  }
  if (withoutInbox && report.lost === 0 && report.twice > 0) {
    return [
      `Without the inbox ${count(report.twice)} deliveries were applied more than once: those that GitHub sent again,`,
      "and those that a killed worker had committed but not acknowledged. With it, they are skipped."
    ].join("\n")
  }
  return "This is not as it had to be."
}

const count = (n: number): string => n.toLocaleString("en-US")
const millis = (n: number): string => (Number.isNaN(n) ? "-" : `${count(Math.round(n))} ms`)

export const table = (report: Report, options: Options): string => {
  const rows: ReadonlyArray<readonly [name: string, value: string, note?: string]> = [
    ["deliveries sent", count(report.sent), "HTTP requests"],
    ["accepted", count(report.accepted), "answered 202"],
    ["distinct", count(report.distinct)],
    ["duplicates skipped", count(report.duplicatesSkipped)],
    ["effects applied", count(report.applied)],
    ["dead-lettered", count(report.deadLettered), "payloads that the schema refuses, with their bytes"],
    ["lost", count(report.lost)],
    ["applied twice", count(report.twice)],
    ["workers killed", count(report.kills), "SIGKILL"],
    ["rate", `${count(perSecond(report))}/s`],
    ["HTTP to commit, p50", millis(percentile(report.latencies, 0.5))],
    ["HTTP to commit, p99", millis(percentile(report.latencies, 0.99))]
  ]
  const names = Math.max(...rows.map(([name]) => name.length))
  const values = Math.max(...rows.map(([, value]) => value.length))
  return [
    "",
    ...rows.map(([name, value, note = ""]) => `  ${name.padEnd(names)}  ${value.padStart(values)}  ${note}`.trimEnd()),
    ...(report.discrepancies.length === 0 ? [] : ["", ...report.discrepancies.map((line) => `  ${line}`)]),
    "",
    verdict(report, options)
  ].join("\n")
}

export const json = (report: Report): string =>
  JSON.stringify({
    sent: report.sent,
    distinct: report.distinct,
    applied: report.applied,
    lost: report.lost,
    twice: report.twice,
    duplicatesSkipped: report.duplicatesSkipped,
    deadLettered: report.deadLettered,
    perSecond: perSecond(report)
  })
