/** How durable a commit is: rule 23, in the words of `Description`. */
import type { PgClient } from "@effect/sql-pg/PgClient"
import type { Assumption, Gap } from "@surety/core/Description"
import * as Redacted from "effect/Redacted"

const inOptions = (options: string | null | undefined): string | undefined =>
  /(?:-c\s*|--)synchronous[_-]commit\s*=\s*(\w+)/.exec(options ?? "")?.[1]

const optionsOfUrl = (url: string): string | null =>
  URL.canParse(url) ? new URL(url).searchParams.get("options") : null

/** What the client's own options say about `synchronous_commit`; the server's settings are not known without asking it. */
export const configured = ({ config }: PgClient): string | undefined =>
  config.startupParameters?.synchronous_commit ??
  inOptions(config.startupOptions ?? (config.url && optionsOfUrl(Redacted.value(config.url))))

export const isOff = (setting: string | undefined): boolean =>
  setting !== undefined && /^(off|false|no|0)$/i.test(setting)

const raisedBy = "synchronous_commit = on"

export const synchronousCommit = (known: Assumption["known"]): Assumption => ({
  holds: "synchronous_commit is not off",
  known,
  otherwise: "loss",
  raisedBy
})

/** What an acknowledgement that is a COMMIT leaves open. */
export const ofCommits = (
  sql: PgClient
): { readonly gaps: ReadonlyArray<Gap>; readonly assumptions: ReadonlyArray<Assumption> } => {
  const setting = configured(sql)
  const off = isOff(setting)
  return {
    gaps: off
      ? [{ allows: "loss", when: "the server stops hard: the client sets synchronous_commit = off", raisedBy }]
      : [],
    assumptions: [
      ...(off ? [] : [synchronousCommit(setting === undefined ? "not checked" : "configured")]),
      {
        holds: "a failover goes only to a standby that has every acknowledged commit",
        known: "not checked",
        otherwise: "loss",
        raisedBy: "synchronous replication (synchronous_standby_names)"
      }
    ]
  }
}
