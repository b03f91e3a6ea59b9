/** Runs that publish message by message, at a steady pace, and take the time until each one is handled. */
import { Deferred, Effect } from "effect"
import * as Message from "../message.ts"
import { percentile } from "../statistics.ts"
import type { Delivering, Part } from "../system.ts"
import { type Size, Wrong } from "../workload.ts"

const everyMillis = 10
/** They take as long as their pace says: of all workloads' messages, so many suffice. */
const share = 1 / 40
const patience = "30 seconds"

/** Returns p50 and p99, in milliseconds from the call of publish to that of the handler. */
export const delivering = Effect.fnUntraced(function* (part: Part<Delivering>, size: Size) {
  const { consume, publish } = yield* part.begin
  const messages = Message.make(Math.ceil(size.messages * share))
  const [first, ...timed] = messages
  const published = new Float64Array(messages.length)
  const latencies = new Map<number, number>()
  const ready = Deferred.makeUnsafe<void>()
  const all = Deferred.makeUnsafe<void>()
  let twice = 0
  const handled = ({ seq }: Message.Message): void => {
    if (latencies.has(seq)) twice++
    else latencies.set(seq, performance.now() - published[seq]!)
    if (seq === first!.seq) Deferred.doneUnsafe(ready, Effect.void)
    if (latencies.size === messages.length) Deferred.doneUnsafe(all, Effect.void)
  }
  yield* consume({ begins: () => {}, handled })
  yield* publish(first!)
  yield* Deferred.await(ready).pipe(Effect.timeout(patience))
  const start = performance.now()
  for (const [index, message] of timed.entries()) {
    yield* Effect.sleep(Math.max(0, start + index * everyMillis - performance.now()))
    published[message.seq] = performance.now()
    yield* Effect.forkChild(publish(message))
  }
  const done = yield* Deferred.await(all).pipe(Effect.timeoutOption(patience))
  if (done._tag === "None" || twice > 0) {
    const detail = `of ${messages.length} messages ${latencies.size} were handled, ${twice} of them twice`
    return yield* new Wrong({ detail })
  }
  const values = timed.map(({ seq }) => latencies.get(seq)!)
  return [percentile(values, 0.5), percentile(values, 0.99)] as const
})
