/** Apps that are simulated, one for each promise. */
import * as Effect from "effect/Effect"
import type { App, Options } from "../../Simulation.ts"
import * as Table from "../../Table.ts"

export interface Scenario {
  readonly name: string
  /** What holds in it. */
  readonly about: string
  readonly app: App
  readonly options: Options
}

/** What is expected of a scenario does not hold. */
export class Unexpected extends Error {
  readonly _tag = "Unexpected"
}

export const expectThat = (condition: boolean, message: () => string): Effect.Effect<void, Unexpected> =>
  condition ? Effect.void : Effect.fail(new Unexpected(message()))

/** No row counts more than one. That nothing is lost the history tells, which knows what was published. */
export const onceEach = (table: Table.Table<number>) =>
  Effect.flatMap(Table.entries(table), (rows) => {
    const more = Array.from(rows).filter(([, times]) => times !== 1)
    return expectThat(more.length === 0, () => `in "${table.name}", ${more.map(([id, n]) => `${id}: ${n}`).join(", ")}`)
  })

/** What was appended, in the order of its commits, for each key. */
export const inOrder = (table: Table.Table<ReadonlyArray<number>>) =>
  Effect.flatMap(Table.entries(table), (rows) => {
    const wrong = Array.from(rows).filter(([, steps]) => steps.some((step, n) => n > 0 && steps[n - 1]! >= step))
    return expectThat(
      wrong.length === 0,
      () => `in "${table.name}", ${wrong.map(([key, steps]) => `${key}: ${steps}`)}`
    )
  })

export const range = <A>(count: number, make: (n: number) => A): ReadonlyArray<A> =>
  Array.from({ length: count }, (_, n) => make(n))

export const increment = (table: Table.Table<number>, id: string) => Table.update(table, id, (times = 0) => times + 1)
