/** Makes a failing run small: it leaves out what it fails without. */
import type { Plan, Run } from "../../Simulation.ts"
import { run, type Setup } from "./run.ts"

/** In how many other orders of things a smaller plan is tried: what fails in one order may take more steps in another. */
const orders = 20

/** The smallest run that was found to violate one of the same invariants, within so many tries. Its seed may be another. */
export const shrink = async (setup: Setup, failing: Run, tries: number): Promise<Run> => {
  const wanted = new Set(failing.violations.map(({ invariant, name }) => `${invariant} ${name}`))
  let best = failing
  let left = tries
  let seed = failing.seed

  /** Keeps the plan if it still fails. */
  const keeps = async (plan: Plan): Promise<boolean> => {
    if (left <= 0) return false
    left--
    const found = await run(setup, seed, plan)
    if (!found.violations.some(({ invariant, name }) => wanted.has(`${invariant} ${name}`))) return false
    best = found
    return true
  }

  /** Halves, quarters and so on are left out, down to single ones. */
  const fewer = async (part: "faults" | "steps"): Promise<void> => {
    for (let size = best.plan[part].length; size >= 1; size = Math.floor(size / 2)) {
      for (let from = 0; from < best.plan[part].length; ) {
        const items: ReadonlyArray<unknown> = best.plan[part]
        const rest = [...items.slice(0, from), ...items.slice(from + size)]
        if (!(await keeps({ ...best.plan, [part]: rest }))) from += size
      }
    }
  }

  /** From one on: a partition that two of three nodes do not have may be the first one's when it is alone. */
  const fewerNodes = async (): Promise<void> => {
    for (let nodes = 1; nodes < best.plan.nodes; nodes++) if (await keeps({ ...best.plan, nodes })) return
  }

  for (let order = 0; order <= orders && left > 0; order++) {
    seed = failing.seed + order
    let size: number
    do {
      size = sizeOf(best.plan)
      await fewer("faults")
      await fewer("steps")
      await fewerNodes()
    } while (sizeOf(best.plan) < size && left > 0)
  }
  return best
}

const sizeOf = ({ faults, nodes, steps }: Plan): number => faults.length + nodes + steps.length
