import type { Event, History, Run, Violation } from "../../History.ts"
import { quote } from "./facts.ts"

const at = (of: {
  readonly topic: string
  readonly group: string
  readonly partition: number
  readonly offset: number
}) => `${of.topic} [${of.group}] ${of.partition}/${of.offset}`

const run = (of: Run) =>
  `${at(of)} ${quote(of.id)} run ${of.run}, attempt ${of.attempt}, epoch ${of.epoch}, on ${of.node}`

const line = (event: Event): string => {
  switch (event._tag) {
    case "Register":
      return `register     ${event.topic} [${event.group}] ${event.guarantee}, from ${event.from}`
    case "Publish":
      return `publish ${event.outcome.padEnd(4)} ${event.topic} ${quote(event.id)}${event.key === undefined ? "" : ` key ${quote(event.key)}`}, on ${event.node}${event.run === undefined ? "" : `, in run ${event.run}`}`
    case "Start":
      return `start        ${run(event)}`
    case "End":
      return `${event.outcome.padEnd(12)} ${run(event)}`
    case "Apply":
      return `apply        effect ${event.step} of run ${event.run}`
    case "Commit":
      return `committed    effect ${event.step} of run ${event.run}`
    case "Settle":
      return `settle ${event.outcome.padEnd(5)} ${at(event)} epoch ${event.epoch}, on ${event.node}`
    case "DeadLetter":
      return `dead letter  ${at(event)} ${quote(event.id)} after ${event.attempts} attempts`
    case "Progress":
      return `progress     ${event.topic} [${event.group}] ${event.partition}: settled ${event.settled}`
    case "Join":
    case "Leave":
      return `${event._tag.toLowerCase().padEnd(12)} ${event.topic} [${event.group}], on ${event.node}`
    case "Redrive":
      return `redrive      ${at(event)} ${quote(event.id)}`
    case "Residue":
      return `residue      ${event.topic} [${event.group}]: ${event.count} ${event.what}`
    case "Fault":
      return `fault        ${event.what}`
    case "Calm":
      return `calm         for ${event.within} ms`
    default:
      return `${event._tag.toLowerCase().padEnd(12)} ${event.node}`
  }
}

export const timeline = (history: History): string =>
  history
    .map((event) => `${String(event.seq).padStart(5)} ${String(event.time).padStart(8)} ms  ${line(event)}`)
    .join("\n")

export const format = (violations: ReadonlyArray<Violation>): string =>
  violations
    .map(({ events, invariant, message, name }) => `invariant ${invariant} (${name}): ${message}\n${timeline(events)}`)
    .join("\n\n")
