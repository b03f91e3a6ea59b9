/** Processes of an app on one database, each with its own connections, and a session of the test's own that looks on. */
import * as PgClient from "@effect/sql-pg/PgClient"
import { Consumer, type Guarantee, type Inbox, Producer, type Surety, Topic, Transport } from "@surety/core"
import type * as PgSchema from "@surety/pg/PgSchema"
import * as SuretyPg from "@surety/pg/SuretyPg"
import * as TestPostgres from "@surety/testing/TestPostgres"
import {
  Context,
  Deferred,
  Effect,
  Fiber,
  Layer,
  type Redacted,
  References,
  Schedule,
  Schema,
  type Scope
} from "effect"
import * as SqlClient from "effect/sql/SqlClient"
import { mutate } from "./mutate.ts"

/** A message of a test: which one it is, its key, and what its handler is to do. */
export const Note = Schema.Struct({
  id: Schema.String,
  key: Schema.optionalKey(Schema.String),
  body: Schema.optionalKey(Schema.String)
})
export type Note = typeof Note.Type

export const note = (id: string, fields: Omit<Note, "id"> = {}): Note => ({ id, ...fields })

/** A topic of notes; with one partition the offsets follow the order of publishing. */
export const notes = <const G extends Guarantee.Name = "exactly-once">(
  options: { readonly name?: string; readonly guarantee?: G; readonly partitions?: number } = {}
) =>
  Topic.make(options.name ?? "work", {
    schema: Note,
    guarantee: options.guarantee ?? ("exactly-once" as G),
    id: ({ id }) => id,
    key: ({ key }) => key,
    partitions: options.partitions ?? 1
  })

export const Work = notes()

/** What handlers publish. */
export const Out = Topic.make("out", {
  schema: Schema.String,
  guarantee: "at-least-once",
  id: (text) => text,
  partitions: 1
})

export type Services = Surety.Services | PgClient.PgClient | SqlClient.SqlClient

export type ClientOptions = Omit<PgClient.PgPoolConfig, "url">

export interface NodeOptions extends PgSchema.Options {
  readonly client?: ClientOptions | undefined
}

/** A database of the test's own, with a table for the effects of handlers. */
export class TestDatabase extends Context.Service<TestDatabase, { readonly url: Redacted.Redacted }>()(
  "TestDatabase"
) {}

export const layerDatabase = Layer.effect(
  TestDatabase,
  Effect.flatMap(TestPostgres.TestPostgres, ({ createDatabase }) => createDatabase())
)

const createEffects = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`CREATE TABLE effect (
    seq bigserial, id text NOT NULL, note text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp()
  )`
})

/** The session that looks on, and the table. */
const layerObserver = Layer.effectDiscard(createEffects).pipe(
  Layer.provideMerge(
    PgClient.layerFrom(
      Effect.flatMap(TestDatabase, ({ url }) => PgClient.make({ url, applicationName: "observer", maxConnections: 6 }))
    )
  )
)

/** Runs a test in a database of its own, on a server that is given. */
export const onServer = <A, E, R>(body: Effect.Effect<A, E, R>) =>
  Effect.scoped(body).pipe(
    Effect.provide(Layer.fresh(Layer.provideMerge(layerObserver, layerDatabase))),
    Effect.provideService(References.MinimumLogLevel, "Error")
  )

/** Runs a test in a database of its own. */
export const inDatabase = <A, E, R>(body: Effect.Effect<A, E, R>) => Effect.provide(onServer(body), TestPostgres.layer)

export const layerNode = ({ client, ...schema }: NodeOptions) =>
  SuretyPg.layerWith(schema).pipe(
    Layer.provideMerge(
      PgClient.layerFrom(
        Effect.flatMap(TestDatabase, ({ url }) => PgClient.make({ applicationName: "app", ...client, url }))
      )
    ),
    Layer.fresh
  )

export interface Node {
  readonly run: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, Exclude<R, Services>>
  readonly publish: (...messages: ReadonlyArray<Note>) => Effect.Effect<void>
  /** Runs a consumer until the scope closes. */
  readonly consume: <A, R>(
    consumer: Consumer.Consumer<A, never, R>
  ) => Effect.Effect<void, unknown, Exclude<R, Services> | Scope.Scope>
}

/** Starts a process of the app, until the scope closes. */
export const start = Effect.fnUntraced(function* (options: NodeOptions = {}) {
  const context = yield* Layer.build(layerNode(options))
  const run: Node["run"] = (effect) => Effect.provideContext(effect, context) as any
  const node: Node = {
    run,
    publish: (...messages) => Effect.orDie(run(Producer.publishAll(Work, messages))) as Effect.Effect<void>,
    consume: (consumer) => Effect.asVoid(run(Layer.build(Consumer.layer(consumer)))) as any
  }
  return node
})

/** The effect of a handler, in its transaction. */
export const effect = (id: string, text = ""): Effect.Effect<void, never, SqlClient.SqlClient> =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.asVoid(Effect.orDie(sql`INSERT INTO effect (id, note) VALUES (${id}, ${text})`))
  )

/** What a test waited for did not come about. */
class NeverHappened extends Error {
  readonly _tag = "NeverHappened"
}

/** Polls a condition in real time, for so long that only a failure can need longer. */
export const until = <E, R>(what: string, holds: Effect.Effect<boolean, E, R>): Effect.Effect<void, E, R> =>
  Effect.suspend(() => {
    let held = false
    return Effect.repeat(
      Effect.map(holds, (now) => {
        held = now
        return now
      }),
      { until: (now) => now, schedule: Schedule.spaced("10 millis").pipe(Schedule.upTo({ duration: "40 seconds" })) }
    ).pipe(Effect.flatMap(() => (held ? Effect.void : Effect.die(new NeverHappened(`never happened: ${what}`)))))
  })

/** One value of one row. */
export const value = <A>(text: string, ...params: ReadonlyArray<unknown>) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.map(sql.unsafe<{ value: A }>(text, params), (rows) => rows[0]?.value as A)
  )

/** The values of one column. */
export const values = <A>(text: string, ...params: ReadonlyArray<unknown>) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.map(sql.unsafe<{ value: A }>(text, params), (rows) => rows.map(({ value }) => value))
  )

/** The ids of the effects, in their order. */
export const effects = values<string>("SELECT id AS value FROM effect ORDER BY seq")

/** The ids of what was published to a topic, in the order of its offsets. */
export const published = (topic: string, schema = "surety") =>
  values<string>(
    `SELECT l.id AS value FROM "${schema}".log l JOIN "${schema}".topic t ON t.id = l.topic
    WHERE t.name = $1 ORDER BY l.log_offset`,
    topic
  )

export const inbox = values<string>("SELECT concat(id, ' ', outcome) AS value FROM surety.inbox ORDER BY id")

export const deadLetters = values<string>(
  "SELECT concat(id, ' ', failure_tag, ' ', attempts) AS value FROM surety.dead_letter ORDER BY log_offset"
)

/** Waits until the group has settled everything that was published. */
export const settled = (count: number, topic = "work") =>
  until(
    `${count} messages of ${topic} settled`,
    Effect.map(
      value<boolean>(
        `SELECT count(*) = $1 AS value FROM surety.log l JOIN surety.topic t ON t.id = l.topic
        JOIN surety.consumer_group g ON g.topic = t.id
        JOIN surety.cursor c ON c.consumer_group = g.id AND c.partition = l.partition AND l.log_offset <= c.settled
        WHERE t.name = $2`,
        count,
        topic
      ),
      (all) => all
    )
  )

/** How many sessions of an app wait for a lock. */
export const waiting = (app = "app") =>
  value<number>(
    `SELECT count(*)::integer AS value FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = $1 AND wait_event_type = 'Lock'`,
    app
  )

/** Runs `body` in a transaction that stays open until the returned effect commits it. */
export const holding = <E, R>(body: Effect.Effect<unknown, E, R>) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const begun = Deferred.makeUnsafe<unknown, E>()
    const end = Deferred.makeUnsafe<void>()
    const fiber = yield* body.pipe(
      Effect.onExit((exit) => Deferred.done(begun, exit)),
      Effect.andThen(Deferred.await(end)),
      sql.withTransaction,
      Effect.forkScoped
    )
    yield* Deferred.await(begun)
    return Effect.andThen(Deferred.succeed(end, undefined), Effect.asVoid(Fiber.join(fiber)))
  })

/** The lease of a partition, as a consumer holds it. */
export const lease = (node: Node, topic: Topic.Any, group = "workers") =>
  Effect.gen(function* () {
    const transport = yield* Transport.Transport
    const { next } = yield* transport.subscribe({
      topic: Topic.declaration(topic),
      group,
      startFrom: "earliest"
    })
    const assignment = yield* next
    const holder: Inbox.Holder = {
      topic: topic.name,
      group,
      partition: assignment.partition,
      epoch: assignment.epoch
    }
    return { assignment, holder, next }
  }).pipe(node.run)

/** Switches a protection off, or changes it. */
export const changeFunction = (name: string, from: string, to: string) =>
  Effect.flatMap(PgClient.PgClient, (sql) => Effect.orDie(mutate(sql, "surety", name, from, to)))

/**
 * Cuts the members of a group off from their heartbeats, without their knowing,
 * and lets their leases and their membership expire. Returns what ends it.
 */
export const cutOffMembers = Effect.gen(function* () {
  yield* values("CREATE TABLE silent AS SELECT id FROM surety.member")
  yield* changeFunction(
    "heartbeat",
    "v_now := clock_timestamp();",
    `IF EXISTS (SELECT FROM public.silent WHERE id = p_member) THEN
      RAISE EXCEPTION 'cut off' USING ERRCODE = 'lock_not_available';
    END IF;
    v_now := clock_timestamp();`
  )
  yield* values("UPDATE surety.lease SET expires_at = '-infinity'")
  yield* values("UPDATE surety.member SET alive_until = '-infinity'")
  return Effect.asVoid(Effect.orDie(values("DELETE FROM silent")))
})

/** An inbox that remembers nothing. */
export const forgetInbox = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql.unsafe(`CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN DELETE FROM surety.inbox; RETURN NULL; END $$`)
  yield* sql`CREATE TRIGGER forget AFTER INSERT ON surety.inbox EXECUTE FUNCTION forget()`
})

/** How a message ended: rows of the handler, of the outbox, of the dead letters, and of the inbox. */
export const outcome = (id: string) =>
  value<string>(
    `SELECT concat_ws(' ',
      (SELECT count(*) FROM effect WHERE id = $1),
      (SELECT count(*) FROM surety.log l JOIN surety.topic t ON t.id = l.topic WHERE t.name = 'out' AND l.id = $1),
      (SELECT count(*) FROM surety.dead_letter WHERE id = $1),
      (SELECT string_agg(outcome, ' ') FROM surety.inbox WHERE id = $1)) AS value`,
    id
  )
export const handled = "1 1 0 handled"
export const dead = "0 0 1 dead"
