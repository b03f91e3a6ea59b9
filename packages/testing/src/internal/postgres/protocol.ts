import type { TestPostgresError } from "../../TestPostgresError.ts"

/** How a server is stopped: `fast` ends the sessions and flushes, `immediate` is a crash that recovery repairs. */
export type StopMode = "fast" | "immediate"

/** What the supervisor needs to create a server. */
export interface ServerOptions {
  /** The directory with `bin`, `lib` and `share` of PostgreSQL. */
  readonly binaries: string
  readonly username: string
  readonly password: string
  readonly settings: Readonly<Record<string, string>>
}

/** What the supervisor is asked to do, one at a time. That the channel closes asks it to end everything. */
export type Command =
  | { readonly _tag: "Create"; readonly options: ServerOptions }
  | { readonly _tag: "Start" }
  | { readonly _tag: "Stop"; readonly mode: StopMode }

export type Reply =
  | { readonly _tag: "Done"; readonly port: number }
  | { readonly _tag: "Failed"; readonly reason: TestPostgresError["reason"]; readonly message: string }

/** Thrown in the supervisor, a `Reply` to its parent. */
export class Failure extends Error {
  readonly reason: TestPostgresError["reason"]
  constructor(reason: TestPostgresError["reason"], message: string) {
    super(message)
    this.reason = reason
  }
}
