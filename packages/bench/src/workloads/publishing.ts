/** Runs that publish, and check that each message is stored once. */
import { Effect } from "effect"
import * as Message from "../message.ts"
import type { Part, Publishing } from "../system.ts"
import { perSecond, timed } from "../timing.ts"
import { type Run, type Size, Wrong } from "../workload.ts"

export const publishing = (part: Part<Publishing> | undefined, size: Size): Run | undefined =>
  part && {
    settings: part.settings,
    measure: Effect.gen(function* () {
      const messages = Message.make(size.messages)
      const { publish, stored } = yield* part.begin
      const millis = yield* timed(publish(messages))
      const { distinct, total } = yield* stored
      if (total !== messages.length || distinct !== messages.length) {
        return yield* new Wrong({ detail: `of ${messages.length} messages ${distinct} are stored, ${total} times` })
      }
      return [perSecond(messages.length, millis)]
    })
  }
