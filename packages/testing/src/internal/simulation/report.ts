/** A failing run, for whoever has to understand it. */
import * as History from "../../History.ts"
import type { Plan, SimulationFailed } from "../../Simulation.ts"
import { describe } from "./faults.ts"

const sizes = ({ faults, nodes, steps }: Plan): string =>
  `${count(faults.length, "fault")}, ${count(steps.length, "step")}, ${count(nodes, "node")}`

const count = (number: number, noun: string): string => `${number} ${noun}${number === 1 ? "" : "s"}`

export const title = ({ run: { violations }, seed }: SimulationFailed): string => {
  const names = new Set(
    violations.map(({ invariant, name }) => (invariant === 0 ? name : `invariant ${invariant} (${name})`))
  )
  return `seed ${seed} violates ${Array.from(names).join(", ")}`
}

/** What was left out. */
export const reduction = ({ before, run, seed }: SimulationFailed): string =>
  `reduced from ${sizes(before)} to ${sizes(run.plan)}${run.seed === seed ? "" : `, in the order of seed ${run.seed}`}`

export const toText = (failed: SimulationFailed): string => {
  const { replay, run } = failed
  return [
    title(failed),
    reduction(failed),
    `run it again: ${replay}`,
    "",
    ...run.violations.slice(0, 3).map(({ message }) => message),
    "",
    run.plan.faults.length === 0 ? "no faults: the order alone does it" : "the faults:",
    ...run.plan.faults.map((fault) => `  ${describe(fault)}`),
    "",
    "what happened:",
    History.timeline(run.history)
  ].join("\n")
}
