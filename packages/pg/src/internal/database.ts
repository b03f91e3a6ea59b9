/** A schema of a database, and the connections to it. */
import { createHash } from "node:crypto"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Backend from "@surety/core/Backend"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type * as Reactivity from "effect/reactivity/Reactivity"
import type * as Scope from "effect/Scope"
import { ConnectionError, SqlError } from "effect/sql/SqlError"
import { PgSchemaError } from "../PgSchemaError.ts"

export interface Settings {
  readonly schema: string
  readonly leaseMillis: number
  readonly pollMillis: number
  readonly maxRecordBytes: number
  /** In milliseconds. */
  readonly retention: {
    readonly log: number | "forever"
    readonly inbox: number | "forever"
    readonly reclaim: boolean
  }
}

export interface Database {
  readonly settings: Settings
  /** The app's client: its transactions are the ones to join. */
  readonly sql: PgClient.PgClient
  /** For what must not wait for the app's transactions, nor be part of them. */
  readonly control: PgClient.PgClient
  /** For leases alone (rule 15). */
  readonly leases: PgClient.PgClient
  /** A connection that listens to notifications. */
  readonly listener: Effect.Effect<PgConnection.PgConnection, SqlError, Scope.Scope>
  /** The schema, as a quoted identifier. */
  readonly schema: string
  /** The channel of its notifications. */
  readonly channel: string
}

/** So that a listener, which says nothing itself, learns that its server is gone. */
const keepAlive = "10 seconds"

/** A row, with what surrounds the payload, stays far below the 1 GB of a message of the protocol. */
const maxRecordBytesAllowed = 64 * 1024 * 1024

const nameError = (schema: string, detail: string) => new PgSchemaError({ reason: "InvalidName", schema, detail })

export const make = Effect.fnUntraced(function* (
  sql: PgClient.PgClient,
  settings: Settings
): Effect.fn.Return<Database, PgSchemaError, Scope.Scope | Reactivity.Reactivity> {
  const { schema } = settings
  const bytes = Buffer.byteLength(schema)
  if (bytes < 1 || bytes > 63 || schema.includes("\0")) {
    return yield* nameError(schema, `the name has ${bytes} bytes; an identifier has 1 to 63, and no NUL`)
  }
  for (const [name, value] of Object.entries({
    lease: settings.leaseMillis,
    pollInterval: settings.pollMillis,
    maxRecordBytes: settings.maxRecordBytes,
    "retention.log": settings.retention.log,
    "retention.inbox": settings.retention.inbox
  })) {
    if (value === "forever") continue
    if (!Number.isFinite(value) || value < 1) {
      return yield* new PgSchemaError({
        reason: "InvalidOptions",
        schema,
        detail: `${name} is ${value}; it is positive`
      })
    }
  }
  if (settings.maxRecordBytes > maxRecordBytesAllowed) {
    const detail = `maxRecordBytes is ${settings.maxRecordBytes}; at most ${maxRecordBytesAllowed} are allowed`
    return yield* new PgSchemaError({ reason: "InvalidOptions", schema, detail })
  }
  if (schema.startsWith("pg_")) return yield* nameError(schema, "names that begin with pg_ are the server's own")
  if (schema === "$user") return yield* nameError(schema, "in a search_path, this name stands for that of the role")
  /** What the app has set up, but for what our own statements would suffer from. */
  const configOf = (purpose: string) => ({
    ...sql.config,
    transformQueryNames: undefined,
    transformResultNames: undefined,
    transformJson: undefined,
    types: undefined,
    // Whatever waits for a lock would hold up the statements behind it, which could not even be interrupted.
    multiplex: false,
    // Ours are single statements: an app's stricter default would only make them fail (rule 1).
    startupParameters: { ...sql.config.startupParameters, default_transaction_isolation: "read committed" },
    applicationName: `${sql.config.applicationName ?? "surety"}:${purpose}`.slice(0, 63),
    maxMessageSize: Math.max(sql.config.maxMessageSize ?? 0, settings.maxRecordBytes * 2 + 16 * 1024 * 1024),
    keepAlive: sql.config.keepAlive ?? keepAlive
  })
  const pool = (purpose: string, maxConnections: number) =>
    Effect.mapError(
      PgClient.make({ ...configOf(purpose), minConnections: 0, maxConnections }),
      (cause) => new PgSchemaError({ reason: "Unreachable", schema, detail: cause.message, cause })
    )
  return {
    settings,
    sql,
    control: yield* pool("control", 6),
    leases: yield* pool("leases", 2),
    listener: PgConnection.make(configOf("listener")),
    schema: `"${schema.replaceAll('"', '""')}"`,
    channel: `surety_${createHash("sha256").update(schema).digest("hex").slice(0, 16)}`
  }
})

/** Rows of a statement on one of the clients, as they come. */
export const rows = <A extends object>(
  client: PgClient.PgClient,
  text: string,
  params: ReadonlyArray<unknown>
): Effect.Effect<ReadonlyArray<A>, SqlError> => client.unsafe<A>(text, params).withoutTransform

/**
 * A transaction of our own. A connection that is lost in it is a failure like
 * any other: the client makes it a defect, where it is the ROLLBACK that cannot
 * be sent any more.
 */
export const transaction = <A, E, R>(
  { control }: Database,
  body: Effect.Effect<A, E, R>
): Effect.Effect<A, E | SqlError, R> =>
  Effect.catchDefect(control.withTransaction(body), (defect) =>
    defect instanceof SqlError ? Effect.fail(defect) : Effect.die(defect)
  )

/** A statement was given up: whether it was carried out is not known, or it is about to be. */
class Unanswered extends Error {
  readonly _tag = "Unanswered"
}

export const isUnanswered = (error: unknown): boolean =>
  error instanceof SqlError && error.reason.cause instanceof Unanswered

/** For how long the server may still be silent. It runs from the start. */
interface Patience {
  readonly suspend: () => void
  readonly renew: () => void
}

/**
 * Gives up what the server does not answer, so that what only waits for a
 * connection that has fallen silent goes on over another one. The driver cancels
 * it, and drops its connection where that does not help either: for which nobody
 * waits.
 */
const patiently = <A, E, R>(
  millis: number,
  make: (patience: Patience) => Effect.Effect<A, E, R>
): Effect.Effect<A, E | SqlError, R> =>
  Effect.contextWith((context: Context.Context<R>) =>
    Effect.callback<A, E | SqlError>((resume) => {
      const over = Deferred.makeUnsafe<void>()
      let timer: NodeJS.Timeout | undefined
      const suspend = () => clearTimeout(timer)
      const renew = () => {
        timer = setTimeout(() => {
          const cause = new Unanswered(`it has not answered for ${millis} milliseconds`)
          const reason = new ConnectionError({ cause, message: cause.message, operation: "query" })
          resume(Effect.fail(new SqlError({ reason })))
          Deferred.doneUnsafe(over, Exit.void)
          fiber.interruptUnsafe()
        }, millis)
      }
      renew()
      const fiber = Effect.runForkWith(context)(make({ suspend, renew }))
      fiber.addObserver((exit) => {
        suspend()
        resume(exit)
      })
      return Effect.raceFirst(Fiber.interrupt(fiber), Deferred.await(over))
    })
  )

export const answeredWithin =
  (millis: number) =>
  <A, E>(statement: Effect.Effect<A, E>): Effect.Effect<A, E | SqlError> =>
    patiently(millis, () => statement)

const answerMillis = ({ settings }: Database) => Math.max(2 * settings.leaseMillis, 10_000)

/**
 * Rows of a statement that moves messages, which waits for no one: however slow the server is, it is repeated. In a
 * transaction of the app's client it is given up with that.
 */
export const answeredRows = <A extends object>(
  db: Database,
  text: string,
  params: ReadonlyArray<unknown>,
  client = db.control
): Effect.Effect<ReadonlyArray<A>, SqlError> => {
  const found = rows<A>(client, text, params)
  return client === db.sql ? found : answeredWithin(answerMillis(db))(found)
}

/** A transaction of the app's client, whose BEGIN, COMMIT and ROLLBACK are answered, or it is given up. */
export const answeredTransaction = <A, E, R>(
  db: Database,
  body: Effect.Effect<A, E, R>
): Effect.Effect<A, E | SqlError, R> =>
  patiently(answerMillis(db), ({ renew, suspend }) =>
    db.sql.withTransaction(
      Effect.suspend(() => {
        suspend()
        return Effect.ensuring(body, Effect.sync(renew))
      })
    )
  )

/** Whether the calling fiber is in a transaction of the app's client. */
export const inTransaction = ({ sql }: Database): Effect.Effect<boolean> =>
  Effect.map(Effect.serviceOption(sql.transactionService), Option.isSome)

/**
 * Does something after the commit of the transaction that the calling fiber is in, or at once outside of one. The client copies the services of the
 * caller several times for that, which is most of the cost: here none of them is needed.
 */
export const afterCommit = ({ sql }: Database, task: () => void): Effect.Effect<void> =>
  Effect.updateContext(sql.afterCommit(Effect.sync(task)), (context: Context.Context<never>) => {
    const transaction = Context.getOption(context, sql.transactionService)
    return Option.isSome(transaction) ? Context.make(sql.transactionService, transaction.value) : Context.empty()
  })

/** Runs an effect as if its fiber were in no transaction of the app's client. */
export const outsideTransaction =
  ({ sql }: Database) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.updateContext(
      effect,
      (context: Context.Context<R>) => Context.omit(sql.transactionService)(context) as Context.Context<R>
    )

/** The app's client inside one of its transactions, else one of our own connections. */
export const joined = (db: Database): Effect.Effect<PgClient.PgClient> =>
  Effect.map(inTransaction(db), (inside) => (inside ? db.sql : db.control))

/** The database's clock does not stop for a test's: what waits for the server waits in real time. */
const realTime: Clock.Clock = Clock.Clock.defaultValue()

export const inRealTime = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.provideService(effect, Clock.Clock, realTime)

/** What is given back is a courtesy to others, who have it anyway once the lease is over: nobody waits longer for a server that does not answer. */
export const asCourtesy = <E>(db: Database, statement: Effect.Effect<unknown, E>): Effect.Effect<void> =>
  Effect.ignore(answeredWithin(Math.min(db.settings.leaseMillis, 5000))(statement))

/** Runs for as long as the layer lives; not at all while it is only explained, which needs no connection. */
export const background = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<void, never, R | Scope.Scope> =>
  Effect.flatMap(Backend.explaining, (explaining) =>
    explaining ? Effect.void : Effect.asVoid(Effect.forkScoped(inRealTime(effect)))
  )
