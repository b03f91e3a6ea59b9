/** The result, as a table and as JSON. */
import type { Report } from "./chaos.ts"
import { broken, type Counts } from "./counts.ts"

const notes: Readonly<Record<keyof Counts, string>> = {
  attempted: "entries that were published, or may have been",
  acknowledged: "their publish succeeded",
  handled: "booked",
  recovered: "booked, although their publisher never knew",
  lost: "acknowledged, and neither booked nor dead",
  unexpected: "booked, and never published",
  duplicated: "booked again",
  dead: "in the dead letters",
  disordered: "booked after a later one of their account",
  unbalanced: "accounts whose balance is not the sum of their bookings",
  receiptsWrong: "receipts missing, doubled, or of no booking",
  unsettled: "not settled a minute after the last fault"
}

const table = (rows: ReadonlyArray<readonly [string, number, string?]>): ReadonlyArray<string> => {
  const names = Math.max(...rows.map(([name]) => name.length))
  const values = Math.max(...rows.map(([, value]) => `${value}`.length))
  return rows.map(([name, value, note = ""]) =>
    `  ${name.padEnd(names)}  ${`${value}`.padStart(values)}  ${note}`.trimEnd()
  )
}

export const text = ({ counts, faults, options, processes, seconds }: Report): string => {
  const violations = broken(counts)
  return [
    "",
    ...table([
      ...Object.entries(faults).sort(([a], [b]) => (a < b ? -1 : 1)),
      ["workers started", processes.workers],
      ["publishers started", processes.publishers]
    ]),
    "",
    ...table(Object.entries(counts).map(([name, value]) => [name, value, notes[name as keyof Counts]])),
    "",
    violations.length === 0
      ? `No violation in ${Math.round(seconds)} seconds.`
      : `Violated: ${violations.join(", ")}. Seed ${options.seed}.`
  ].join("\n")
}

export const json = ({ counts, faults, options, processes, seconds }: Report): string => {
  const { json: _, ...shown } = options
  return JSON.stringify({ ...counts, violations: broken(counts), faults, processes, seconds, options: shown })
}
