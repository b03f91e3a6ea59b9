/** The command line of the demo. */
import { Flag } from "effect/cli"

export interface Options {
  readonly deliveries: number
  readonly kills: number
  readonly workers: number
  readonly json: boolean
  readonly withoutInbox: boolean
}

const wholeNumber = (
  name: string,
  range: { readonly min: number; readonly max: number; readonly default: number },
  description: string
) =>
  Flag.Int(name).pipe(
    Flag.filter(
      (n) => n >= range.min && n <= range.max,
      (n) => `Expected a whole number from ${range.min} to ${range.max}, got ${n}`
    ),
    Flag.withDefault(range.default),
    Flag.withDescription(`${description} (${range.min} to ${range.max}, default ${range.default})`)
  )

export const flags = {
  deliveries: wholeNumber(
    "deliveries",
    { min: 1, max: 100_000, default: 5000 },
    "How many distinct deliveries to send"
  ),
  kills: wholeNumber("kills", { min: 0, max: 100, default: 5 }, "How often a worker process is killed with SIGKILL"),
  workers: wholeNumber("workers", { min: 1, max: 16, default: 2 }, "How many worker processes consume"),
  json: Flag.Boolean("json").pipe(
    Flag.withDefault(false),
    Flag.withDescription("Print the result as one JSON object, on the last line")
  ),
  withoutInbox: Flag.Boolean("without-inbox").pipe(
    Flag.withDefault(false),
    Flag.withDescription("Consume without the inbox, to see what it is for: ends with an error")
  )
}
