/** Runs that consume a backlog, and check that each message was handled once, in order where that is promised, and applied once. */
import { Deferred, Effect } from "effect"
import * as Business from "../business.ts"
import * as Message from "../message.ts"
import type { Consuming, Database, Opened, Part, Watch } from "../system.ts"
import { perSecond, until } from "../timing.ts"
import { type Run, type Size, Wrong } from "../workload.ts"

const patience = "60 seconds"

/** Takes the time from the first call of a handler, so that starting up is not measured. */
class Recorder implements Watch {
  readonly #times: Uint8Array
  readonly #latest = new Map<number, number>()
  readonly #all = Deferred.makeUnsafe<void>()
  readonly all = Deferred.await(this.#all)
  distinct = 0
  outOfOrder = 0
  start: number | undefined
  end = 0

  constructor(messages: number) {
    this.#times = new Uint8Array(messages)
  }

  readonly begins = (): void => {
    this.start ??= performance.now()
  }

  readonly handled = ({ account, seq }: Message.Message): void => {
    if (this.#times[seq]!++ > 0) return
    if (seq < (this.#latest.get(account) ?? -1)) this.outOfOrder++
    this.#latest.set(account, seq)
    if (++this.distinct === this.#times.length) Deferred.doneUnsafe(this.#all, Effect.void)
  }

  get twice(): number {
    return this.#times.filter((times) => times > 1).length
  }
}

/**
 * `ordered`: handled in the order of each account. `applied`: the handler's writes are exactly-once. The time is taken
 * until everything is settled: until then a message might be handled again.
 */
export const consuming = (
  part: Part<Consuming> | undefined,
  { tables }: Pick<Opened, "tables">,
  { sql }: Database,
  size: Size,
  checks: { readonly ordered?: boolean; readonly applied?: boolean }
): Run | undefined =>
  part && {
    settings: part.settings,
    measure: Effect.gen(function* () {
      const messages = Message.make(size.messages)
      const { consume, fill, unsettled } = yield* part.begin
      yield* fill(messages)
      if (tables.length > 0) yield* sql.unsafe(`VACUUM (ANALYZE) ${tables.join(", ")}`)
      const watch = new Recorder(messages.length)
      const settled = yield* Effect.gen(function* () {
        yield* consume(watch)
        yield* watch.all
        if (checks.applied === true) yield* Business.untilApplied(sql, messages.length)
        yield* until(Effect.map(unsettled, (n) => n === 0))
        watch.end = performance.now()
        return true
      }).pipe(Effect.timeoutOrElse({ duration: patience, orElse: () => Effect.succeed(false) }), Effect.scoped)
      if (!settled) {
        const left = yield* unsettled
        const detail = `after ${patience} ${watch.distinct} of ${messages.length} were handled, ${left} are not settled`
        return yield* new Wrong({ detail })
      }
      if (checks.ordered === true && watch.outOfOrder > 0) {
        return yield* new Wrong({ detail: `${watch.outOfOrder} messages came after a later one of their account` })
      }
      if (checks.applied === true) {
        const wrong = yield* Business.wrongAccounts(sql, messages)
        if (wrong.length > 0) {
          return yield* new Wrong({ detail: `lost, or applied twice: on ${wrong.length} accounts` })
        }
      } else if (watch.twice > 0) {
        return yield* new Wrong({ detail: `${watch.twice} messages were handled twice` })
      }
      return [perSecond(messages.length, watch.end - watch.start!)]
    })
  }
