/** The result, as a table and as JSON. */
import { Predicate } from "effect"
import { median } from "./statistics.ts"
import type { Role } from "./system.ts"
import type { Bar, Row, Unit } from "./workload.ts"

/** What the repetitions of one system came to. */
export interface Series {
  readonly system: string
  readonly role: Role
  readonly settings: string
  readonly values: ReadonlyArray<number>
}

export interface Line {
  readonly workload: string
  readonly row: Row
  readonly series: ReadonlyArray<Series>
}

export interface Failure {
  readonly workload: string
  readonly system: string
  readonly error: unknown
}

/** The medians of a line, and ours in relation to the others. `null` where there is nothing to compare with. */
export interface Compared {
  readonly workload: string
  readonly ours: number | null
  readonly bestPeer: number | null
  readonly peer: string | null
  readonly limit: number | null
  readonly ratioPeer: number | null
  readonly ratioLimit: number | null
}

export const compare = ({ row, series, workload }: Line): Compared => {
  const medians = (role: Role) =>
    series
      .filter((one) => one.role === role)
      .map(({ system, values }) => ({ system, value: median(values) }))
      .sort((a, b) => (row.better === "more" ? b.value - a.value : a.value - b.value))
  const ours = medians("ours")[0]?.value ?? null
  const best = medians("peer")[0]
  const limit = medians("limit")[0]?.value ?? null
  const ratio = (other: number | null | undefined) => (ours === null || other == null ? null : ours / other)
  return {
    workload,
    ours,
    bestPeer: best?.value ?? null,
    peer: best?.system ?? null,
    limit,
    ratioPeer: ratio(best?.value),
    ratioLimit: ratio(limit)
  }
}

const valueOf = (compared: Compared, { of }: Bar): number | null =>
  of === "peer" ? compared.ratioPeer : of === "limit" ? compared.ratioLimit : compared.ours

/** Whether the bar is met; `undefined` where what it compares was not measured. */
export const isMet = (line: Line, bar: Bar): boolean | undefined => {
  const value = valueOf(compare(line), bar)
  if (value === null) return undefined
  return bar.at === "least" ? value >= bar.value : value <= bar.value
}

const digits = (unit: Unit) => (unit === "messages/s" || unit === "rows" ? 0 : 2)

const format = (value: number, unit: Unit): string =>
  value.toLocaleString("en-US", { minimumFractionDigits: digits(unit), maximumFractionDigits: digits(unit) })

const times = (ratio: number): string => `${ratio.toFixed(2)} ×`

/** What bounds the others: the SQL that one would write, or the client that ours is made of. */
const limitOf = ({ series }: Line): string => series.find(({ role }) => role === "limit")?.system ?? "hand-written"

const barText = (line: Line, bar: Bar): string => {
  const value = valueOf(compare(line), bar)
  const than = { peer: " best peer", limit: ` ${limitOf(line)}`, itself: "" }[bar.of]
  const text = `bar ${bar.at === "least" ? "≥" : "≤"} ${bar.value}${than === "" ? ` ${line.row.unit}` : ` ×${than}`}`
  const met = isMet(line, bar)
  return value === null ? `${text}: not measured` : `${text}: ${met === true ? "met" : "NOT MET"}`
}

/** A heading for each line; below it the systems, ours first. */
const section = (line: Line): ReadonlyArray<string> => {
  const { row, series, workload } = line
  const compared = compare(line)
  const rows = series.map(({ settings, system, values }) => [
    system,
    format(median(values), row.unit),
    `${format(Math.min(...values), row.unit)} to ${format(Math.max(...values), row.unit)}`,
    settings
  ])
  const width = (column: number) => Math.max(0, ...rows.map((cells) => cells[column]!.length))
  const ratios = [
    ...(compared.ratioPeer === null ? [] : [`${times(compared.ratioPeer)} best peer (${compared.peer})`]),
    ...(compared.ratioLimit === null ? [] : [`${times(compared.ratioLimit)} ${limitOf(line)}`])
  ]
  return [
    "",
    `${workload}: ${row.title} [${row.unit}]`,
    ...rows.map(
      ([system, value, range, settings]) =>
        `  ${system!.padEnd(width(0))}  ${value!.padStart(width(1))}  ${range!.padStart(width(2))}  ${settings}`
    ),
    ...(ratios.length === 0 ? [] : [`  ours: ${ratios.join(", ")}`]),
    ...row.bars.map((bar) => `  ${barText(line, bar)}`)
  ]
}

const explain = (error: unknown): string => (Predicate.isError(error) ? error.message : String(error))

export const heading = ({
  messages,
  repetitions,
  server
}: {
  readonly server: string
  readonly messages: number
  readonly repetitions: number
}): string => `${server}; ${messages.toLocaleString("en-US")} messages; medians of ${repetitions}, with min to max`

export const sections = (lines: ReadonlyArray<Line>): string => lines.flatMap(section).join("\n")

export const ending = (failures: ReadonlyArray<Failure>): string =>
  [
    "",
    failures.length === 0 ? "Every message was stored, handled and applied once." : "Not as it had to be:",
    ...failures.map(({ error, system, workload }) => `  ${workload}, ${system}: ${explain(error)}`)
  ].join("\n")

export const json = (lines: ReadonlyArray<Line>): string => JSON.stringify({ rows: lines.map(compare) })
