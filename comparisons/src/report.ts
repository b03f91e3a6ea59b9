/** The outcomes, as tables. */
import type { Counts, Outcome } from "./comparison.ts"

const asExpected = (counts: Counts, expected: Counts): boolean =>
  Object.entries(expected).every(([name, count]) => counts[name] === count)

/** Whether something of ours did not come out as expected. */
export const violated = (outcomes: ReadonlyArray<Outcome>): boolean =>
  outcomes.some(({ comparison, results }) =>
    results.some(({ counts, ours }) => ours && !asExpected(counts, comparison.expected))
  )

const table = (rows: ReadonlyArray<ReadonlyArray<string>>): ReadonlyArray<string> => {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  return rows.map((row) => `  ${row.map((cell, column) => cell.padEnd(widths[column]!)).join("  ")}`.trimEnd())
}

const one = ({ comparison, results }: Outcome): string => {
  const { about, expected, name } = comparison
  const columns = Object.keys(expected)
  return [
    "",
    name,
    `  ${about}`,
    "",
    ...table([
      ["system", "version", ...columns, ""],
      ["expected", "", ...columns.map((column) => `${expected[column]}`), ""],
      ...results.map(({ counts, system, version }) => [
        system,
        version,
        ...columns.map((column) => `${counts[column]}`),
        asExpected(counts, expected) ? "as expected" : "not as expected"
      ])
    ])
  ].join("\n")
}

export const text = (outcomes: ReadonlyArray<Outcome>): string => outcomes.map(one).join("\n")
