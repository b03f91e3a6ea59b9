/** The command line of the chaos. */
import { Effect, Random } from "effect"
import { Flag } from "effect/cli"
import { type Name, names } from "./transports/index.ts"

export interface Options {
  readonly minutes: number
  readonly transport: Name
  readonly workers: number
  readonly publishers: number
  readonly seed: string
  readonly withoutInbox: boolean
  readonly json: boolean
}

const between = (min: number, max: number) => ({
  holds: (n: number) => n >= min && n <= max,
  message: (n: number) => `Expected a number from ${min} to ${max}, got ${n}`
})

const someProcesses = (name: string, standard: number, description: string) => {
  const range = between(1, 16)
  return Flag.Int(name).pipe(
    Flag.filter(range.holds, range.message),
    Flag.withDefault(standard),
    Flag.withDescription(`${description} (1 to 16, default ${standard})`)
  )
}

const minutes = between(0.1, 1440)

export const flags = {
  minutes: Flag.Finite("minutes").pipe(
    Flag.filter(minutes.holds, minutes.message),
    Flag.withDefault(1),
    Flag.withDescription("For how long faults are inflicted (0.1 to 1440, default 1)")
  ),
  transport: Flag.Literals("transport", names).pipe(
    Flag.withDefault("pg"),
    Flag.withDescription("What carries the messages (default pg)")
  ),
  workers: someProcesses("workers", 3, "How many worker processes book entries"),
  publishers: someProcesses("publishers", 3, "How many processes publish entries"),
  seed: Flag.String("seed").pipe(
    Flag.withDefault(Effect.map(Random.nextIntBetween(0, 2 ** 31), String)),
    Flag.withDescription("Which faults are drawn, and how far apart: any text; by chance where it is not given")
  ),
  withoutInbox: Flag.Boolean("without-inbox").pipe(
    Flag.withDefault(false),
    Flag.withDescription("Consume without the inbox, to see what is found then: ends with an error")
  ),
  json: Flag.Boolean("json").pipe(
    Flag.withDefault(false),
    Flag.withDescription("Print the result as one JSON object, on the last line")
  )
}
