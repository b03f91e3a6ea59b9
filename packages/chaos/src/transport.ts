/** What a transport is to the chaos: a server that is started, restarted and stopped, and the layers over it. */
import type * as PgClient from "@effect/sql-pg/PgClient"
import type { AtLeastOnce, DeadLetters, ExactlyOnce, Transport } from "@surety/core"
import type * as TestPostgres from "@surety/testing/TestPostgres"
import type { Effect, Layer, Redacted, Scope } from "effect"

export type Services = AtLeastOnce | ExactlyOnce | Transport.Transport | DeadLetters.DeadLetters

/** A fault of the server, and how it is counted. */
export interface Fault {
  readonly name: string
  readonly inflict: Effect.Effect<void, unknown>
}

export interface Server {
  /** What the processes need to know, as environment variables. */
  readonly env: Readonly<Record<string, string>>
  /** Stop it as a crash does, or otherwise, and start it again: one of them at a time. */
  readonly restarts: ReadonlyArray<Fault>
  /** What else goes wrong with it, now and then. */
  readonly faults: ReadonlyArray<Fault>
}

/** What a process is there for: the last one looks on. */
export type Role = "publisher" | "worker" | "observer"

/** The ledger is in PostgreSQL, whatever carries the messages. */
export interface ChaosTransport {
  /** Runs until the scope closes. */
  readonly start: (ledger: Redacted.Redacted) => Effect.Effect<Server, unknown, Scope.Scope | TestPostgres.TestPostgres>
  /** The layers of one process, which finds the server by its environment. */
  readonly layer: (role: Role, env: NodeJS.ProcessEnv) => Layer.Layer<Services, unknown, PgClient.PgClient>
  /** How many messages are committed in the ledger's database, and have to be sent on from there. */
  readonly unsent: Effect.Effect<number, unknown, PgClient.PgClient>
  /** Whether a receipt may come again, under the id that it has: of a sender that was killed. */
  readonly repeatsReceipts: boolean
}

/** How long a silent worker keeps its partitions; one that is frozen is frozen for longer. */
export const leaseMillis = 2000
