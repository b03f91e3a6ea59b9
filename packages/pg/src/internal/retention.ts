/**
 * Forgets what is older than its retention, in the background: a batch at a
 * time, by one process at a time. What that empties is given back: of the tables
 * by autovacuum, of their indexes, where that is asked for, by building them anew
 * beside those in use.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { answeredWithin, background, type Database, rows } from "./database.ts"

const hour = 3_600_000

/** What one transaction looks at, in rows of the log or in blocks of the inbox, and the longest rest. */
const tasks = {
  log: { batch: 1000, maxRest: hour },
  inbox: { batch: 128, maxRest: 24 * hour }
} as const

/** Between batches, for others to get in; and before looking again where another process is at it, or the database is away. */
const pauseMillis = 10
const absentMillis = 10_000
/** More than a batch can take. */
const batchMillis = 10 * 60_000

/** What is over is gone within about a tenth of its retention, and not looked for more often than the log is polled. */
const restOf = (keep: number, pollMillis: number, maxRest: number): number =>
  Math.min(Math.max(keep / 10, pollMillis), maxRest)

const forget = (db: Database, task: keyof typeof tasks, keep: number): Effect.Effect<void, never, Scope.Scope> => {
  const { batch, maxRest } = tasks[task]
  const rest = restOf(keep, db.settings.pollMillis, maxRest)
  const round = answeredWithin(batchMillis)(
    rows<{ wait: number | null }>(
      db.control,
      `SELECT ${db.schema}.trim_${task}($1::double precision * interval '1 millisecond', $2::double precision * interval '1 millisecond', $3) AS wait`,
      [keep, rest, batch]
    )
  ).pipe(
    Effect.map(([row]) => row!.wait ?? Math.min(rest, absentMillis)),
    Effect.catch((error) =>
      Effect.as(Effect.logDebug(`retention of the ${task} has to wait`, error), Math.min(rest, absentMillis))
    ),
    Effect.flatMap((wait) => Effect.sleep(Math.max(wait, pauseMillis)))
  )
  return background(Effect.forever(round))
}

/** Each statement alone, and in no transaction: they wait for those that are open, and publishers and consumers do not wait for them. */
const reclaim = (db: Database, rest: number): Effect.Effect<void, never, Scope.Scope> => {
  const round = answeredWithin(batchMillis)(
    rows<{ statement: string }>(
      db.control,
      `SELECT * FROM ${db.schema}.reclaim($1::double precision * interval '1 millisecond') AS statement`,
      [rest]
    )
  ).pipe(
    Effect.flatMap((found) =>
      Effect.forEach(
        found,
        ({ statement }) =>
          Effect.catch(db.control.unsafe(statement).unprepared, (error) =>
            Effect.logWarning(`space is not given back for now: ${statement}`, error)
          ),
        { discard: true }
      )
    ),
    Effect.catch((error) => Effect.logDebug("space is not given back for now", error)),
    Effect.andThen(Effect.sleep(rest))
  )
  return background(Effect.forever(round))
}

export const sweep = (db: Database): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { inbox, log, reclaim: reclaims } = db.settings.retention
    if (log !== "forever") yield* forget(db, "log", log)
    if (inbox !== "forever") yield* forget(db, "inbox", inbox)
    if (!reclaims) return
    const keep = Math.min(...[log, inbox].filter((each) => each !== "forever"))
    yield* reclaim(db, restOf(keep, db.settings.pollMillis, hour))
  })
