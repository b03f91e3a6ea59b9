/** A log with one partition in a schema of its own, publishers whose transactions a test holds open, and a reader. */
import * as PgClient from "@effect/sql-pg/PgClient"
import { AtLeastOnce, Producer, Topic, Transport } from "@surety/core"
import * as SuretyPg from "@surety/pg/SuretyPg"
import * as TestPostgres from "@surety/testing/TestPostgres"
import { Context, Deferred, Effect, Fiber, Layer, Schema } from "effect"
import * as SqlClient from "effect/sql/SqlClient"
import { mutate } from "./mutate.ts"

export const schemaName = "surety"

export const Log = Topic.make("log", {
  schema: Schema.String,
  guarantee: "at-least-once",
  id: (text) => text,
  partitions: 1
})

/** A transaction that was begun, and is waiting to be told how to end. */
export interface Open {
  readonly commit: Effect.Effect<void>
  readonly rollback: Effect.Effect<void>
}

export class Lab extends Context.Service<
  Lab,
  {
    readonly sql: PgClient.PgClient
    readonly publish: (...texts: ReadonlyArray<string>) => Effect.Effect<void>
    /** Runs `body` in a transaction, and leaves it open. `begin` replaces BEGIN. */
    readonly open: (body: Effect.Effect<unknown, unknown, AtLeastOnce | Lab>, begin?: string) => Effect.Effect<Open>
    /** What a reader can read now: the ids, in the order of their offsets. */
    readonly read: Effect.Effect<ReadonlyArray<string>>
    /** The same from an offset on. */
    readonly readAfter: (
      offset: number
    ) => Effect.Effect<ReadonlyArray<{ readonly id: string; readonly offset: number }>>
    readonly sequence: string
    readonly switchOff: (name: string, from: string, to: string) => Effect.Effect<void>
  }
>()("Lab") {}

const make = Effect.gen(function* () {
  const sql = yield* PgClient.PgClient
  const transport = yield* Transport.Transport
  const guarantee = yield* AtLeastOnce
  const scope = yield* Effect.scope
  const { epoch } = yield* Effect.flatMap(
    transport.subscribe({ topic: Topic.declaration(Log), group: "readers", startFrom: "earliest" }),
    ({ next }) => next
  )
  const [{ topic, group }] = (yield* sql<{ topic: number; group: number }>`
    SELECT topic, id AS group FROM surety.consumer_group`) as [{ topic: number; group: number }]
  const readAfter = (offset: number) =>
    sql
      .unsafe<{ log_offset: bigint | null; id: string }>(
        "SELECT * FROM surety.claim($1, $2, 0, $3, $4, 10000, 1e9::bigint)",
        [topic, group, epoch, offset]
      )
      .withoutTransform.pipe(
        Effect.map((found) =>
          found.flatMap(({ id, log_offset }) => (log_offset === null ? [] : [{ id, offset: Number(log_offset) }]))
        ),
        Effect.orDie
      )
  const lab: Lab["Service"] = Lab.of({
    sql,
    sequence: `surety.offset_${topic}`,
    publish: (...texts) =>
      Producer.publishAll(Log, texts).pipe(Effect.provideService(AtLeastOnce, guarantee), Effect.orDie, Effect.asVoid),
    open: (body, begin) =>
      Effect.gen(function* () {
        const begun = yield* Deferred.make<void, unknown>()
        const end = yield* Deferred.make<boolean>()
        const fiber = yield* body.pipe(
          Effect.provideService(AtLeastOnce, guarantee),
          Effect.provideService(Lab, lab),
          Effect.onExit((exit) => Deferred.done(begun, exit as never)),
          Effect.andThen(Deferred.await(end)),
          Effect.flatMap((commit) => (commit ? Effect.void : Effect.fail("rollback" as const))),
          sql.withTransaction,
          Effect.provideService(SqlClient.BeginTransaction, begin),
          Effect.forkIn(scope)
        )
        yield* Effect.orDie(Deferred.await(begun))
        const ended = (commit: boolean) =>
          Effect.andThen(Deferred.succeed(end, commit), Effect.asVoid(Fiber.await(fiber)))
        return { commit: ended(true), rollback: ended(false) }
      }),
    readAfter,
    read: Effect.map(readAfter(0), (found) => found.map(({ id }) => id)),
    switchOff: (name, from, to) => Effect.orDie(mutate(sql, schemaName, name, from, to))
  })
  return lab
})

/** A database of its own for each test. */
export const layer = Layer.effect(Lab, make).pipe(
  Layer.provideMerge(SuretyPg.layer),
  Layer.provideMerge(TestPostgres.layerClientWith({ maxConnections: 30 })),
  Layer.provide(TestPostgres.layer)
)

/** Runs a test on a lab of its own. */
export const inLab = <A, E>(
  body: (lab: Lab["Service"]) => Effect.Effect<A, E, AtLeastOnce | Transport.Transport | PgClient.PgClient | Lab>
) => Effect.provide(Effect.flatMap(Lab, body), layer)
