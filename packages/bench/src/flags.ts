/** The command line of the benchmark. */
import { Flag } from "effect/cli"

export interface Options {
  readonly quick: boolean
  readonly json: boolean
  readonly only: ReadonlyArray<string>
  readonly system: ReadonlyArray<string>
}

/** `publish` stands for `publish-each`, `publish-batch` and so on. Without names, everything is selected. */
export const selects = (names: ReadonlyArray<string>, workload: string): boolean =>
  names.length === 0 || names.some((name) => workload === name || workload.startsWith(`${name}-`))

const switchedOn = (name: string, description: string) =>
  Flag.Boolean(name).pipe(Flag.withDefault(false), Flag.withDescription(description))

export const flags = (workloads: ReadonlyArray<string>, systems: ReadonlyArray<string>) => ({
  quick: switchedOn("quick", "2,000 messages instead of 20,000, without the long workloads: under a minute in all"),
  json: switchedOn("json", "Print the result as one JSON object, on the last line"),
  only: Flag.String("only").pipe(
    Flag.filter(
      (name) => workloads.some((workload) => selects([name], workload)),
      (name) => `There is no workload "${name}". There are ${workloads.join(", ")}; "publish" means all that begin so`
    ),
    Flag.atLeast(0),
    Flag.withDescription("Only this workload, or all whose names begin so; may be given more than once")
  ),
  system: Flag.Literals("system", systems).pipe(
    Flag.atLeast(0),
    Flag.withDescription("Only this system; may be given more than once")
  )
})
