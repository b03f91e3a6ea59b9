/** Shows what is being measured: one line on a terminal, nothing elsewhere. On standard error. */
import { Effect, Stdio } from "effect"

export const make = Effect.gen(function* () {
  const stdio = yield* Stdio.Stdio
  const terminal = yield* stdio.stderrIsTerminal
  const write = (text: string) => Effect.sync(() => void process.stderr.write(text))
  const clear = terminal ? write("\r\x1b[2K") : Effect.void
  return {
    show: (text: string) => (terminal ? Effect.andThen(clear, write(text)) : Effect.void),
    clear
  }
})
