/**
 * Settling in the handlers' own transaction (exactly-once): the inbox rows, the
 * handlers' writes, what they published and the progress commit together
 * (invariants 5, 7 and 8).
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import * as Channel from "../../Channel.ts"
import type { DeadLetter } from "../../DeadLetters.ts"
import type { UnitOfWork } from "../../Guarantee.ts"
import type { Holder } from "../../Inbox.ts"
import { PublishError } from "../../PublishError.ts"
import { Transaction } from "../../Transaction.ts"
import { TransportError } from "../../TransportError.ts"
import { CurrentUnit, makeUnit, type Unit } from "../unit.ts"
import { type End, infrastructureRetry } from "./context.ts"
import { failureOf } from "./failures.ts"
import { decode, runHandler, type Undecoded } from "./handler.ts"
import { type Alone, isolate } from "./isolate.ts"
import type { Item } from "./keyedQueue.ts"
import {
  beginAttempt,
  deadLetterOf,
  type Ending,
  endCounted,
  failed,
  releasedOnInterrupt,
  type Served,
  tellEnding
} from "./settle.ts"

/** What the transaction is to do with a message. */
interface Plan {
  readonly item: Item
  readonly ending: Ending | undefined
}

/** How often a transaction is repeated before its failures are worth a warning, and again. */
const repeatsUntilWarning = 10

type Outcome = Ending | { readonly _tag: "Handled" } | { readonly _tag: "Duplicate" }

const handled: Outcome = { _tag: "Handled" }
const duplicate: Outcome = { _tag: "Duplicate" }

/** A message that is to be handled. */
interface Fit {
  readonly item: Item
  readonly payload: unknown
}

/** What a transaction has settled, and the progress that it has stored. */
interface Committed {
  readonly reached: number
  readonly outcomes: ReadonlyArray<{ readonly item: Item; readonly outcome: Outcome }>
  readonly work: Unit
}

/** The attempt of one message failed, and took the transaction with it. */
class AttemptFailed extends Data.TaggedError("AttemptFailed")<{ readonly cause: Cause.Cause<unknown> }> {}

/** How a transaction that did not commit is to be taken. */
type Verdict =
  | { readonly _tag: "Infrastructure" }
  | { readonly _tag: "End"; readonly error: TransportError }
  | { readonly _tag: "Attempt"; readonly cause: Cause.Cause<unknown> }

export const handleTransactional =
  (unit: UnitOfWork) =>
  (served: Served): ((batch: ReadonlyArray<Item>) => Effect.Effect<ReadonlyArray<Item>, End, any>) => {
    const { clock } = served.context
    const attemptOf = Effect.fnUntraced(function* (item: Item): Effect.fn.Return<Alone, End, any> {
      let ending = yield* beginAttempt(served, item)
      if (ending === undefined) {
        const failure = yield* transact([{ item, ending }])
        if (failure === undefined) {
          if (!item.parked) yield* endCounted(served, item)
          return "settled"
        }
        ending = yield* failed(served, item, failure)
      }
      if (ending === undefined) return "again"
      const failure = yield* transact([{ item, ending }])
      if (failure !== undefined) return yield* Effect.failCause(failure as Cause.Cause<never>)
      return ending._tag === "Park" ? "parked" : "settled"
    })

    const alone = (item: Item) => attemptOf(item).pipe(releasedOnInterrupt(served, item))

    const together = (items: ReadonlyArray<Item>): Effect.Effect<boolean, End, any> =>
      Effect.map(transact(items.map((item) => ({ item, ending: undefined }))), (failure) => failure === undefined)

    /**
     * Runs the transaction until it commits, or fails by the doing of a message:
     * then with the cause. Failures of the store are repeated and count as
     * nobody's attempt.
     */
    const transact = (plans: ReadonlyArray<Plan>): Effect.Effect<Cause.Cause<unknown> | undefined, End, any> =>
      Effect.gen(function* () {
        let backoff: ((input: unknown) => Effect.Effect<unknown, unknown>) | undefined
        let repeats = 0
        while (true) {
          const start = clock.currentTimeMillisUnsafe()
          const exit = yield* Effect.exit(attempt(plans))
          if (Exit.isSuccess(exit)) {
            served.context.batch.took(clock.currentTimeMillisUnsafe() - start)
            const { outcomes, reached, work } = exit.value
            served.progress.stored = Math.max(served.progress.stored, reached)
            for (const { item, outcome } of outcomes) {
              if (outcome._tag === "Park") yield* served.redeliver!.follow(item, outcome.dueAt)
              else if (item.parked) served.redeliver!.parking.settle(item.record.offset)
              else served.progress.settle(item.record.offset)
              if (outcome._tag === "Handled" || outcome._tag === "Duplicate") {
                served.context.observer.tellOf(outcome._tag, item, served.assignment.epoch)
              } else {
                yield* tellEnding(served, item, outcome)
              }
            }
            if (work.afterCommit.length > 0) {
              yield* sendAfterCommit(work, served.context.delivery.confirmation!.acks.timeout)
            }
            return undefined
          }
          const verdict = judge(exit.cause)
          if (verdict._tag === "Attempt") return verdict.cause
          if (verdict._tag === "End") return yield* Effect.fail(verdict.error)
          repeats++
          yield* repeats % repeatsUntilWarning === 0
            ? Effect.logWarning(
                `a transaction has failed ${repeats} times by no fault of its messages, and is repeated; later ones of their keys wait`,
                exit.cause
              )
            : Effect.logDebug("the store failed in the middle of a transaction; repeating it", exit.cause)
          backoff ??= yield* Schedule.toStepWithSleep(infrastructureRetry)
          yield* Effect.ignore(backoff(undefined))
        }
      })

    /** What a handler failed with is its own, also where it is another transport's error, unless the inbox or the outbox raised it. */
    const isOfTheStore = (error: unknown): boolean =>
      unit.inbox.isInfrastructure(error) ||
      (error instanceof PublishError && error.reason._tag === "NotSent" && error.reason.cause.isRetryable)

    const judge = (cause: Cause.Cause<unknown>): Verdict => {
      for (const error of errorsOf(cause)) {
        if (error instanceof AttemptFailed) {
          return errorsOf(error.cause).some(isOfTheStore)
            ? { _tag: "Infrastructure" }
            : { _tag: "Attempt", cause: error.cause }
        }
        if (error instanceof TransportError) {
          if (error.isRetryable) return { _tag: "Infrastructure" }
          const { _tag } = error.reason
          if (_tag === "Fenced" || _tag === "InvalidState" || _tag === "Unauthorized") return { _tag: "End", error }
        } else if (unit.inbox.isInfrastructure(error)) {
          return { _tag: "Infrastructure" }
        }
      }
      return { _tag: "Attempt", cause }
    }

    const attempt = (plans: ReadonlyArray<Plan>): Effect.Effect<Committed, unknown, any> => {
      const { assignment, context, progress, redeliver } = served
      const work = makeUnit(unit.outbox)
      const holder: Holder = {
        topic: context.consumer.topic.name,
        group: context.consumer.settings.group,
        partition: assignment.partition,
        epoch: assignment.epoch
      }
      const body = Effect.gen(function* () {
        const outcomes: Array<Committed["outcomes"][number]> = []
        const decoded: Array<Exit.Exit<unknown, Undecoded> | undefined> = []
        const entries: Array<{ readonly id: string; readonly outcome: "handled" | "discarded" | "dead" }> = []
        // Rule 19: kept aside and passed by the cursor in one transaction. It is not settled, and has no inbox row.
        for (const { item, ending } of plans) {
          if (ending?._tag !== "Park") continue
          yield* redeliver!.park(item, ending.dueAt)
          outcomes.push({ item, outcome: ending })
        }
        const settling = plans.filter(({ ending }) => ending?._tag !== "Park")
        for (const { item, ending } of settling) {
          const payload = ending === undefined ? yield* Effect.exit(decode(context, item)) : undefined
          decoded.push(payload)
          const dead = ending?._tag === "DeadLetter" || (payload !== undefined && Exit.isFailure(payload))
          entries.push({ id: item.record.id, outcome: dead ? "dead" : ending === undefined ? "handled" : "discarded" })
        }
        // Invariants 5 and 6: whatever becomes of a message, its inbox row says first that it is settled by this transaction.
        const fresh = entries.length === 0 ? [] : yield* unit.inbox.admit(holder, entries)
        const letters: Array<DeadLetter> = []
        const fit: Array<Fit> = []
        for (let i = 0; i < settling.length; i++) {
          const { item, ending } = settling[i]!
          const payload = decoded[i]
          let outcome: Outcome = ending ?? handled
          if (!fresh[i]) {
            outcome = duplicate
          } else if (payload !== undefined && Exit.isSuccess(payload)) {
            fit.push({ item, payload: payload.value })
          } else if (payload !== undefined) {
            outcome = { _tag: "DeadLetter", failure: failureOf(payload.cause), attempts: item.attempt - 1 }
          }
          if (outcome._tag === "DeadLetter") letters.push(yield* deadLetterOf(served, item, outcome))
          outcomes.push({ item, outcome })
        }
        // One handler at a time: a savepoint that one rolls back must not take another's writes.
        const together = context.consumer.settings.batch !== undefined
        if (fit.length > 0) yield* handle(work, together ? [fit] : fit.map((one) => [one]))
        work.ended = true
        if (letters.length > 0) yield* unit.inbox.deadLetter(letters)
        if (work.outgoing.length > 0) yield* unit.outbox.write(work.outgoing)
        const parked = settling.flatMap(({ item }) => (item.parked ? [item] : []))
        if (parked.length > 0) yield* redeliver!.settle(parked)
        // Invariant 10: the epoch is checked by the last statement of the transaction.
        const passed = plans.flatMap(({ item }) => (item.parked ? [] : [item.record.offset]))
        const reached = progress.reachedWith(new Set(passed))
        yield* reached > progress.stored ? assignment.settle(reached) : assignment.fence
        return { reached: Math.max(reached, progress.stored), outcomes, work }
      })
      return unit.inbox.transaction(holder, body).pipe(
        Effect.ensuring(
          Effect.sync(() => {
            work.ended = true
          })
        )
      )
    }

    const transactionKey = Channel.key(Transaction, served.context.consumer.topic.channel)

    const handle = (work: Unit, batches: ReadonlyArray<ReadonlyArray<Fit>>) => {
      const handleOne = (messages: ReadonlyArray<Fit>) =>
        runHandler(
          served.context,
          messages.map(({ item }) => item),
          messages.map(({ payload }) => payload),
          served.assignment.epoch
        )
      const [first] = batches
      const handling = batches.length === 1 ? handleOne(first!) : Effect.forEach(batches, handleOne, { discard: true })
      return Effect.flatMap(Transaction, (transaction) =>
        Effect.provideContext(handling, Context.make(transactionKey, transaction).pipe(Context.add(CurrentUnit, work)))
      ).pipe(Effect.catchCause((cause) => Effect.fail(new AttemptFailed({ cause }))))
    }

    return (batch) => isolate(batch, together, alone, served.laneOf)
  }

/** What a cause failed with and died of. */
const errorsOf = (cause: Cause.Cause<unknown>): ReadonlyArray<unknown> =>
  cause.reasons.flatMap((reason) =>
    Cause.isFailReason(reason) ? [reason.error] : Cause.isDieReason(reason) ? [reason.defect] : []
  )

/** At-most-once messages of the transaction: one try, which may be lost, and holds nothing up for longer than an acknowledgement may take. */
const sendAfterCommit = (work: Unit, timeout: Duration.Duration): Effect.Effect<void> =>
  Effect.forEach(
    work.afterCommit,
    ({ record, topic, transport }) =>
      transport.publish(topic, [record]).pipe(
        Effect.timeout(timeout),
        Effect.catchCause((cause) => Effect.logWarning("an at-most-once message was lost after the commit", cause))
      ),
    { discard: true }
  )
