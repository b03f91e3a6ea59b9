/**
 * A simulation of a handler: one seed after another, until the order of things,
 * a crash or a lost reply shows a bug. The one here is ordinary: a handler looks
 * at a balance, as any service with a connection of its own would, and takes
 * money from it a moment later.
 */
import { assert, describe } from "@effect/vitest"
import { Consumer, Producer, Topic } from "@surety/core"
import * as Simulation from "@surety/testing/Simulation"
import { it } from "@surety/testing/SimulationTest"
import * as Table from "@surety/testing/Table"
import { Effect, Schema } from "effect"

const Withdrawal = Schema.Struct({ id: Schema.String, account: Schema.String, amount: Schema.Int })
const Withdrawals = Topic.make("withdrawals", { schema: Withdrawal, guarantee: "exactly-once", id: ({ id }) => id })

/** Rows that are part of a message's transaction, as those of SQL are. An account begins with 100. */
const balances = Table.make<number>("balances")

class InsufficientFunds extends Schema.TaggedError<InsufficientFunds>()("InsufficientFunds", {}) {}

/** Each withdrawal is handled exactly once, and still two of them may be granted for which there is money for one. */
const checksFirst = Effect.fn(function* ({ account, amount }: typeof Withdrawal.Type) {
  const balance = (yield* Table.get(balances, account)) ?? 100
  if (balance < amount) return yield* new InsufficientFunds()
  yield* Table.update(balances, account, (row = 100) => row - amount)
})

/** Looks and takes in one statement, under the lock of the row. */
const checksAtOnce = Effect.fn(function* ({ account, amount }: typeof Withdrawal.Type) {
  const granted = yield* Table.modify(balances, account, (row = 100) =>
    row < amount ? [false, row] : [true, row - amount]
  )
  if (!granted) return yield* new InsufficientFunds()
})

const teller = (handler: typeof checksFirst | typeof checksAtOnce) =>
  Consumer.make(Withdrawals, { group: "teller", concurrency: 4, handlerTimeout: "30 seconds", handler }).pipe(
    Consumer.deadLetter("InsufficientFunds"),
    Consumer.layer
  )

const withdrawals = ["a", "b", "c", "d"].map((id) => Producer.publish(Withdrawals, { id, account: "ada", amount: 80 }))

/** What must hold whatever happens. */
const notOverdrawn = Effect.map(Table.get(balances, "ada"), (balance = 100) => assert.isAtLeast(balance, 0))

const options: Simulation.Options = { workload: withdrawals, expect: notOverdrawn }

describe("a teller", () => {
  it.simulate("that looks and takes in one statement overdraws no account", teller(checksAtOnce), {
    ...options,
    runs: 25
  })

  it.effect("that looks first is found out, by the fewest steps that show it", () =>
    Effect.gen(function* () {
      const failed = yield* Effect.flip(Simulation.check(teller(checksFirst), { ...options, runs: 500 }))
      const { plan, violations } = failed.run
      assert.strictEqual(violations[0]?.name, "expectation")
      assert.strictEqual(plan.steps.length, 2)
      assert.strictEqual(plan.faults.length, 0)
      // The timeline: two handlers start, both end well, and both commit.
      assert.match(failed.message, /start .*\n(.*\n)*.*start .*\n(.*\n)*.*committed.*\n(.*\n)*.*committed/)
    })
  )
})
