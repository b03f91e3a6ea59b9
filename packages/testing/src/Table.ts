/**
 * Rows in memory that take part in a message's transaction: what a handler
 * writes to in a simulation, where its SQL would.
 *
 * They behave as a table of PostgreSQL does at its default isolation, READ
 * COMMITTED: each operation sees what is committed when it runs, and what its
 * own transaction has written; a row that is written is locked until the
 * transaction ends, and whoever else wants to write it waits; a rollback takes
 * everything back. Two of them that wait for each other are told so, and one
 * is rolled back. Between two operations anything may happen.
 *
 * **Example**
 *
 * ```ts
 * const balances = Table.make<number>("balances")
 *
 * Table.update(balances, "alice", (balance = 0) => balance + 10)
 * ```
 *
 * Known limits: a failure of the store is a defect, as no handler can do
 * anything about it; values are kept as they are, and must not be changed in
 * place; there are no other isolation levels.
 *
 * @since 0.1.0
 */
import { Interference } from "@surety/core/Interference"
import * as MemoryStore from "@surety/core/MemoryStore"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"

/**
 * A table of rows of type `A`, by their keys.
 *
 * @category models
 * @since 0.1.0
 */
export interface Table<in out A> {
  readonly name: string
  readonly _A?: (_: A) => A
}

/**
 * Names a table. It is empty to begin with.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <A>(name: string): Table<A> => ({ name })

interface Lock {
  readonly by: object
  readonly ended: Latch.Latch
}

interface Rows {
  readonly committed: Map<string, unknown>
  readonly locks: Map<string, Lock>
}

const absent = Symbol("absent")

/**
 * All tables of a store.
 *
 * @category services
 * @since 0.1.0
 */
export class Tables extends Context.Service<
  Tables,
  {
    readonly rows: (table: string) => Rows
    /** What open transactions have written. */
    readonly written: WeakMap<object, Map<string, Map<string, unknown>>>
    /** Which transaction waits for which. */
    readonly waiting: Map<object, object>
  }
>()("@surety/testing/Table/Tables") {}

/** @internal */
export const makeTables = (): Tables["Service"] => {
  const tables = new Map<string, Rows>()
  return {
    rows: (name) => {
      const rows = tables.get(name) ?? { committed: new Map(), locks: new Map() }
      tables.set(name, rows)
      return rows
    },
    written: new WeakMap(),
    waiting: new Map()
  }
}

/**
 * Tables of their own.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Tables> = Layer.sync(Tables, makeTables)

/** A step at the store, of the transaction that the calling fiber is in. */
const step = <A>(
  table: Table<any>,
  name: string,
  body: (tables: Tables["Service"], transaction: MemoryStore.Transaction | undefined) => Effect.Effect<A>
): Effect.Effect<A, never, Tables> =>
  Effect.flatMap(MemoryStore.currentTransaction, (transaction) =>
    Effect.contextWith((context: Context.Context<Tables>) => {
      const around = Context.get(context, Interference)
      const effect = body(Context.get(context, Tables), transaction)
      if (around === undefined) return effect
      const operation = { name: `table.${name}`, topic: table.name, holder: undefined, letters: undefined, transaction }
      return Effect.catch(around.operation(operation, effect), (error) =>
        Effect.die(new MemoryStore.ConnectionLost({ detail: error.message }))
      )
    })
  )

const overlay = ({ written }: Tables["Service"], transaction: MemoryStore.Transaction | undefined, table: string) =>
  transaction === undefined ? undefined : written.get(transaction)?.get(table)

const read = (
  tables: Tables["Service"],
  transaction: MemoryStore.Transaction | undefined,
  table: string,
  key: string
): unknown => {
  const own = overlay(tables, transaction, table)
  if (own?.has(key) === true) {
    const value = own.get(key)
    return value === absent ? undefined : value
  }
  return tables.rows(table).committed.get(key)
}

const checkOpen = (transaction: MemoryStore.Transaction | undefined) => {
  if (transaction !== undefined && transaction.state !== "open") {
    throw new MemoryStore.ConnectionLost({ detail: "the transaction has ended" })
  }
}

/**
 * The row of a key; undefined where there is none.
 *
 * @category reading
 * @since 0.1.0
 */
export const get = <A>(table: Table<A>, key: string): Effect.Effect<A | undefined, never, Tables> =>
  step(table, "get", (tables, transaction) =>
    Effect.sync(() => {
      checkOpen(transaction)
      return read(tables, transaction, table.name, key) as A | undefined
    })
  )

/**
 * All rows, in the order in which their keys were first written.
 *
 * @category reading
 * @since 0.1.0
 */
export const entries = <A>(table: Table<A>): Effect.Effect<ReadonlyMap<string, A>, never, Tables> =>
  step(table, "entries", (tables, transaction) =>
    Effect.sync(() => {
      checkOpen(transaction)
      const rows = new Map(tables.rows(table.name).committed)
      for (const [key, value] of overlay(tables, transaction, table.name) ?? []) {
        if (value === absent) rows.delete(key)
        else rows.set(key, value)
      }
      return rows as Map<string, A>
    })
  )

/**
 * Reads a row under its lock and writes what `change` makes of it: the first of
 * the pair is returned. A row that becomes undefined is deleted.
 *
 * @category writing
 * @since 0.1.0
 */
export const modify = <A, B>(
  table: Table<A>,
  key: string,
  change: (row: A | undefined) => readonly [B, A | undefined]
): Effect.Effect<B, never, Tables> =>
  step(table, "write", (tables, transaction) => {
    const write = (): B => {
      const [result, value] = change(read(tables, transaction, table.name, key) as A | undefined)
      put(tables, transaction, table.name, key, value === undefined ? absent : value)
      return result
    }
    return Effect.andThen(lock(tables, transaction, table.name, key), Effect.sync(write))
  })

/**
 * Writes what `change` makes of the row of a key, under its lock.
 *
 * @category writing
 * @since 0.1.0
 */
export const update = <A>(
  table: Table<A>,
  key: string,
  change: (row: A | undefined) => A | undefined
): Effect.Effect<void, never, Tables> => modify(table, key, (row) => [undefined, change(row)])

/**
 * Writes a row, whatever was there.
 *
 * @category writing
 * @since 0.1.0
 */
export const set = <A>(table: Table<A>, key: string, row: A): Effect.Effect<void, never, Tables> =>
  modify(table, key, () => [undefined, row])

/**
 * Deletes a row.
 *
 * @category writing
 * @since 0.1.0
 */
export const remove = <A>(table: Table<A>, key: string): Effect.Effect<void, never, Tables> =>
  modify(table, key, () => [undefined, undefined])

const put = (
  tables: Tables["Service"],
  transaction: MemoryStore.Transaction | undefined,
  table: string,
  key: string,
  value: unknown
): void => {
  const { committed } = tables.rows(table)
  const store = () => {
    if (value === absent) committed.delete(key)
    else committed.set(key, value)
  }
  if (transaction === undefined) {
    store()
    return
  }
  const own = tables.written.get(transaction) ?? new Map<string, Map<string, unknown>>()
  const rows = own.get(table) ?? new Map<string, unknown>()
  const [had, before] = [rows.has(key), rows.get(key)]
  tables.written.set(transaction, own.set(table, rows.set(key, value)))
  transaction.changes.push(store)
  transaction.undo.push(() => void (had ? rows.set(key, before) : rows.delete(key)))
}

/** Waits until no other transaction holds the row, and holds it. */
const lock = (
  tables: Tables["Service"],
  transaction: MemoryStore.Transaction | undefined,
  table: string,
  key: string
): Effect.Effect<void> =>
  Effect.suspend(() => {
    checkOpen(transaction)
    const { locks } = tables.rows(table)
    const held = locks.get(key)
    if (held === undefined || held.by === transaction) {
      if (transaction !== undefined && held === undefined) {
        locks.set(key, { by: transaction, ended: transaction.ended })
        const release = () => void locks.delete(key)
        transaction.changes.push(release)
        transaction.undo.push(release)
      }
      return Effect.void
    }
    const again = lock(tables, transaction, table, key)
    if (transaction === undefined) return Effect.andThen(held.ended.await, again)
    for (let next: object | undefined = held.by; next !== undefined; next = tables.waiting.get(next)) {
      if (next !== transaction) continue
      MemoryStore.abort(transaction)
      return Effect.die(new MemoryStore.ConnectionLost({ detail: `deadlock on row "${key}" of table "${table}"` }))
    }
    tables.waiting.set(transaction, held.by)
    return held.ended.await.pipe(
      Effect.ensuring(Effect.sync(() => tables.waiting.delete(transaction))),
      Effect.andThen(again)
    )
  })
