/** What a simulation takes: an app that the simulation can provide for, and nothing that it cannot hold. */
import { Consumer, Producer, type Surety, Topic } from "@surety/core"
import { PgSchema } from "@surety/pg"
import type * as History from "@surety/testing/History"
import * as Simulation from "@surety/testing/Simulation"
import { it as test } from "@surety/testing/SimulationTest"
import * as Table from "@surety/testing/Table"
import { Effect, Layer, Schedule, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { describe, expect, it } from "tstyche"

const Payments = Topic.make("payments", {
  schema: Schema.Struct({ id: Schema.String, amount: Schema.Int }),
  guarantee: "exactly-once",
  id: ({ id }) => id
})

class Refused extends Schema.TaggedError<Refused>()("Refused", {}) {}

const balances = Table.make<number>("balances")
const inTable = Consumer.make(Payments, {
  group: "ledger",
  handler: ({ amount }) => Table.update(balances, "ada", (balance = 0) => balance + amount)
})
const Ledger = Consumer.layer(inTable)
const InSql = Consumer.make(Payments, {
  group: "ledger",
  handler: ({ id }) => Effect.flatMap(SqlClient.SqlClient, (sql) => sql`INSERT INTO payment VALUES (${id})`)
}).pipe(Consumer.orDeadLetter, Consumer.layer)
const Undecided = Consumer.make(Payments, { group: "ledger", handler: () => new Refused() })

const workload = [Producer.publish(Payments, { id: "1", amount: 1 })]

describe("an app", () => {
  it("is a layer over the services of the simulation", () => {
    expect(Simulation.check(Ledger, { workload })).type.toBe<
      Effect.Effect<Simulation.Checked, Simulation.SimulationFailed>
    >()
    expect(Simulation.run(Ledger, { workload, seed: 1 })).type.toBe<Effect.Effect<Simulation.Run>>()
    expect<Simulation.Services>().type.toBe<Surety.Services | Table.Tables>()
  })

  it("or one for each process, where a new version is deployed", () => {
    Simulation.check(({ node, start }) => (node === 1 && start === 0 ? Ledger : Layer.empty), { workload })
    test.simulate("a ledger", Ledger, { workload, runs: 10, timeout: "1 minute" })
  })

  it("that reaches for what no seed holds is refused", () => {
    // @ts-expect-error Type 'SqlClient' is not assignable to type 'Services'.
    Simulation.check(InSql, { workload })
    // @ts-expect-error Type 'PgSchema' is not assignable to type 'Services'.
    test.simulate("a ledger", Layer.effectDiscard(PgSchema.PgSchema), { workload })
  })

  it("decides about each of its errors, as everywhere", () => {
    // @ts-expect-error Type 'Refused' is not assignable to type 'never'.
    Simulation.check(Consumer.layer(Undecided), { workload })
    Simulation.check(Undecided.pipe(Consumer.retry(Schedule.recurs(3)), Consumer.orDeadLetter, Consumer.layer), {
      workload
    })
  })
})

describe("the options", () => {
  it("say what is done, what may go wrong, and what is expected", () => {
    Simulation.check(Ledger, {
      workload,
      faults: { ...Simulation.faults, crash: 10, skew: 0 },
      invariants: [(history: History.History) => (history.length > 0 ? [] : [])],
      expect: Effect.map(Table.get(balances, "ada"), (balance) => {
        expect(balance).type.toBe<number | undefined>()
      }),
      store: { lease: "1 second" },
      within: "1 hour"
    })
  })

  it("know no other faults", () => {
    // @ts-expect-error Object literal may only specify known properties, and 'flood' does not exist in type
    Simulation.check(Ledger, { workload, faults: { flood: 1 } })
  })

  it("need a workload, and a run its seed", () => {
    // @ts-expect-error Property 'workload' is missing
    Simulation.check(Ledger, {})
    // @ts-expect-error Property 'seed' is missing
    Simulation.run(Ledger, { workload })
  })
})

describe("a failure", () => {
  it("is a value with the run, its plan and a page", () => {
    Effect.catchTag(Simulation.check(Ledger, { workload }), "SimulationFailed", (failed) => {
      expect(failed.run.plan.faults).type.toBe<ReadonlyArray<Simulation.Fault>>()
      expect(failed.run.history).type.toBe<History.History>()
      expect(failed.html).type.toBe<string>()
      return Effect.void
    })
  })
})

describe("a table", () => {
  it("has rows of one type", () => {
    expect(Table.get(balances, "ada")).type.toBe<Effect.Effect<number | undefined, never, Table.Tables>>()
    expect(Table.entries(balances)).type.toBe<Effect.Effect<ReadonlyMap<string, number>, never, Table.Tables>>()
    expect(Table.set(balances, "ada", 1)).type.toBe<Effect.Effect<void, never, Table.Tables>>()
    // @ts-expect-error Argument of type 'string' is not assignable to parameter of type 'number'.
    Table.set(balances, "ada", "1")
    // @ts-expect-error Type 'string' is not assignable to type 'number'.
    Table.update(balances, "ada", () => "1")
  })

  it("takes no other rows, and is not taken for one that has them", () => {
    expect<Table.Table<number>>().type.not.toBeAssignableTo<Table.Table<number | string>>()
    expect<Table.Table<number | string>>().type.not.toBeAssignableTo<Table.Table<number>>()
  })
})
