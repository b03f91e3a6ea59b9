/** What is measured: ours, a peer, or hand-written SQL. One file each in `systems`. */
import type * as PgClient from "@effect/sql-pg/PgClient"
import type { Effect, Redacted, Scope } from "effect"
import type { Message } from "./message.ts"

export type Role = "ours" | "peer" | "limit"

export interface System {
  readonly name: string
  readonly role: Role
  /** What it runs on. Default: PostgreSQL. */
  readonly on?: "kafka"
  /** Creates its tables, and connects. It stays open, and idle, while the others have their turns. */
  readonly open: (database: Database) => Effect.Effect<Opened, unknown, Scope.Scope>
}

/** A database of the system's own, with the business tables of `business.ts`. */
export interface Database {
  readonly url: Redacted.Redacted
  readonly sql: PgClient.PgClient
  /** Where Kafka is, if something is measured on it. */
  readonly kafka?: string | undefined
}

/** What a system can do. What it has no means for is left out, and has no row. */
export interface Opened {
  /** The tables that grow with the messages: emptied before each run, analyzed after a backlog was stored. */
  readonly tables: ReadonlyArray<string>
  /** One message per call, 64 calls at a time. */
  readonly publishEach?: Part<Publishing>
  /** With an INSERT of the user's, in a transaction of the user's, on 16 connections. */
  readonly publishInTransaction?: Part<Publishing>
  /** 1,000 messages per call. */
  readonly publishBatches?: Part<Publishing>
  /** A handler that does nothing. */
  readonly consume?: Part<Consuming>
  /** The same, in order for each account. */
  readonly consumeOrdered?: Part<Consuming>
  /** Exactly-once: a handler with one awaited UPDATE per message. */
  readonly exactlyOnceEach?: Part<Consuming>
  /** Exactly-once: a handler with one UPDATE per batch. */
  readonly exactlyOnceBatch?: Part<Consuming>
  /** Message by message, while a consumer with a handler that does nothing waits for them. */
  readonly deliver?: Part<Delivering>
  /** Exactly-once with one awaited UPDATE per message, in processes of their own. */
  readonly processes?: Part<Processes>
  /** On Kafka: 1,000 messages per call, 8 calls at a time. */
  readonly kafkaProduce?: Part<Publishing>
  /** On Kafka: a handler that does nothing. */
  readonly kafkaConsume?: Part<Consuming>
  /** From topic to topic, in transactions. */
  readonly kafkaCopy?: Part<Copying>
  /** Deletes what is settled, by its own retention, until the scope closes. */
  readonly forget?: Effect.Effect<unknown, unknown, Scope.Scope>
}

export interface Part<A> {
  /** The configuration, as the table shows it. */
  readonly settings: string
  /** Prepares a run, under a name that is new: nothing of it is timed. */
  readonly begin: Effect.Effect<A, unknown, Scope.Scope>
}

export interface Publishing {
  /** Returns once all of them are acknowledged. */
  readonly publish: (messages: ReadonlyArray<Message>) => Effect.Effect<void, unknown>
  /** How many messages are stored, and how many different ones. */
  readonly stored: Effect.Effect<{ readonly total: number; readonly distinct: number }, unknown>
}

export interface Consuming {
  /** Stores a backlog. */
  readonly fill: (messages: ReadonlyArray<Message>) => Effect.Effect<void, unknown>
  /** Consumes until the scope closes. */
  readonly consume: (watch: Watch) => Effect.Effect<unknown, unknown, Scope.Scope>
  /** How many messages would be handled again after a restart. */
  readonly unsettled: Effect.Effect<number, unknown>
}

export interface Copying extends Consuming {
  /** How many messages were written, and how many different ones, as readers of committed records see them. */
  readonly copied: Publishing["stored"]
}

export interface Delivering {
  readonly publish: (message: Message) => Effect.Effect<unknown, unknown>
  /** As for `Consuming`. */
  readonly consume: (watch: Watch) => Effect.Effect<unknown, unknown, Scope.Scope>
}

export interface Processes {
  readonly leaseMillis: number
  readonly partitions: number
  readonly publish: (messages: ReadonlyArray<Message>) => Effect.Effect<unknown, unknown>
  /** Starts a process, which is killed at the end of the scope, and returns once it is connected. */
  readonly spawn: Effect.Effect<WorkerProcess, unknown, Scope.Scope>
}

export interface WorkerProcess {
  /** Lets it consume. */
  readonly go: Effect.Effect<void>
  /** As a crash would. */
  readonly kill: Effect.Effect<void>
  /** How many messages it has handled. */
  handled: number
  /** The partitions that it has. */
  serving: ReadonlyArray<number>
  /** When it has last handled a message of a partition, by our clock. */
  readonly latest: Map<number, number>
}

/** Called by the handlers. */
export interface Watch {
  readonly begins: () => void
  /** The partition is told where the system has some. */
  readonly handled: (message: Message, partition?: number) => void
}
