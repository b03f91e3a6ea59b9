/** Shows how far the run has come: a bar on a terminal, else a line now and then. On standard error. */
import { Effect, Schedule, Stdio } from "effect"

export interface Shown {
  readonly done: number
  readonly total: number
  readonly text: string
}

const width = 30

const render = ({ done, text, total }: Shown): string => {
  const filled = total === 0 ? width : Math.min(width, Math.floor((done / total) * width))
  return `[${"#".repeat(filled)}${"-".repeat(width - filled)}] ${text}`
}

/** Shows until it is interrupted. */
export const show = Effect.fnUntraced(function* (shown: () => Shown) {
  const stdio = yield* Stdio.Stdio
  const write = (text: string) => Effect.sync(() => process.stderr.write(text))
  if (yield* stdio.stderrIsTerminal) {
    return yield* Effect.suspend(() => write(`\r\x1b[2K${render(shown())}`)).pipe(
      Effect.repeat(Schedule.spaced("100 millis")),
      Effect.ensuring(write("\r\x1b[2K"))
    )
  }
  return yield* Effect.suspend(() => write(`${shown().text}\n`)).pipe(Effect.repeat(Schedule.spaced("2 seconds")))
})
