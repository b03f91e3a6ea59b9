/** A member of a group: keeps its leases, and moves towards its share of the partitions. */
import { randomUUID } from "node:crypto"
import { allowance } from "@surety/core/Backend"
import type { Assignment, SubscribeOptions, Subscription } from "@surety/core/Transport"
import { Fenced, TransportError } from "@surety/core/TransportError"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as assignment from "./assignment.ts"
import { answeredRows, answeredWithin, asCourtesy, type Database, inRealTime, rows } from "./database.ts"
import { toTransportError } from "./errors.ts"
import type { Signals } from "./signals.ts"
import type { Topics } from "./topics.ts"

/**
 * What is stored, as a share of the lease that was declared: the rest is for who takes over, to notice, to end what the
 * former holder has open, and to claim.
 */
const storedShare = 3 / 4

/** However short a lease is: longer than the `lock_timeout` of those who wait for their turn, whose error says more. */
const minPatienceMillis = 2500

interface Held {
  readonly epoch: number
  readonly revoked: Deferred.Deferred<void, TransportError>
}

interface Heartbeat {
  readonly partitions: ReadonlyArray<number>
  readonly epochs: ReadonlyArray<bigint>
  readonly members: number
  readonly rank: number
  readonly free: number
  readonly next_expiry: number | null
}

export const make = Effect.fnUntraced(function* (
  db: Database,
  signals: Signals,
  topics: Topics,
  options: SubscribeOptions
): Effect.fn.Return<Subscription, TransportError, Scope.Scope> {
  const topic = yield* topics(options.topic)
  const storedMillis = db.settings.leaseMillis * storedShare
  const renewMillis = storedMillis / 3
  /** A connection that has fallen silent is given up, while there is time to renew the lease on another one. */
  const patience = Math.max(storedMillis / 2, minPatienceMillis)
  const call = <A extends object>(operation: string, text: string, params: ReadonlyArray<unknown>) =>
    rows<A>(db.leases, text, params).pipe(
      answeredWithin(patience),
      Effect.mapError(toTransportError(operation, topic.name))
    )
  const [registered] = yield* answeredRows<{ id: number }>(db, `SELECT ${db.schema}.register_group($1, $2, $3) AS id`, [
    topic.id,
    options.group,
    options.startFrom
  ]).pipe(Effect.mapError(toTransportError("subscribe", topic.name)))
  const group: assignment.Group = { id: registered!.id, name: options.group, topic }
  const member = randomUUID()
  const lease = `${storedMillis} milliseconds`
  const membership = signals.group(group.id)
  const held = new Map<number, Held>()
  const assigned = yield* Queue.unbounded<Assignment, TransportError>()

  const giveBack = (partitions: ReadonlyArray<number>, epochs: ReadonlyArray<bigint>) =>
    call(
      "release",
      `UPDATE ${db.schema}.lease AS e SET holder = NULL, expires_at = '-infinity'
      FROM unnest($2::integer[], $3::bigint[]) AS h(partition, epoch)
      WHERE e.consumer_group = $1 AND e.partition = h.partition AND e.epoch = h.epoch`,
      [group.id, partitions, epochs]
    )

  const acquire = Effect.fnUntraced(function* (max: number) {
    const leases = yield* call<assignment.Lease>(
      "lease",
      `SELECT * FROM ${db.schema}.acquire($1, $2, $3::interval, $4)`,
      [group.id, member, lease, max]
    )
    if (leases.length === 0) return
    yield* call("lease", `SELECT ${db.schema}.sweep($1::integer[], $2::bigint[])`, [
      leases.map(({ id }) => id),
      leases.map(({ epoch }) => epoch)
    ])
    for (const acquired of leases) {
      const revoked = Deferred.makeUnsafe<void, TransportError>()
      const { partition } = acquired
      const entry: Held = { epoch: Number(acquired.epoch), revoked }
      held.set(partition, entry)
      const released = () => {
        if (held.get(partition) === entry) held.delete(partition)
      }
      const options = { revoked: Deferred.await(revoked), released }
      Queue.offerUnsafe(assigned, assignment.make(db, signals, group, acquired, options))
    }
  })

  let leaving = false
  /** A beat and leaving, each in its turn: one that is under way would join again, and take what nobody would serve. */
  const turns = Semaphore.makeUnsafe(1)
  const heartbeat = `SELECT * FROM ${db.schema}.heartbeat($1, $2, $3::interval)`
  /** Of who has left the group: a heartbeat that was given up unanswered may have brought it back. */
  const renewal = `WITH gone AS (DELETE FROM ${db.schema}.member WHERE consumer_group = $1 AND id = $2),
    renewed AS (
      UPDATE ${db.schema}.lease SET expires_at = clock_timestamp() + $3::interval
      WHERE consumer_group = $1 AND holder = $2 RETURNING partition::integer, epoch
    )
    SELECT coalesce(array_agg(partition), '{}') AS partitions, coalesce(array_agg(epoch), '{}') AS epochs,
      0 AS members, 0 AS rank, 0 AS free, NULL::double precision AS next_expiry
    FROM renewed`

  /** Renews what is held, learns what was lost, and moves towards a fair share. Returns for how long it may rest. */
  const beat = Effect.gen(function* () {
    const [row] = yield* call<Heartbeat>("lease", leaving ? renewal : heartbeat, [group.id, member, lease])
    const { epochs, free, members, next_expiry: nextExpiry, partitions, rank } = row!
    const stored = new Map(partitions.map((partition, index) => [partition, Number(epochs[index])]))
    for (const [partition, { epoch, revoked }] of held) {
      if (stored.get(partition) === epoch) continue
      held.delete(partition)
      const reason = new Fenced({ group: group.name, partition, epoch })
      Deferred.doneUnsafe(revoked, Exit.fail(new TransportError({ operation: "lease", topic: topic.name, reason })))
    }
    // Leases whose acquisition or release was not answered.
    const orphans = partitions.flatMap((partition, index) => (held.has(partition) ? [] : [index]))
    if (orphans.length > 0) {
      yield* giveBack(
        orphans.map((index) => partitions[index]!),
        orphans.map((index) => epochs[index]!)
      )
    }
    if (leaving) return renewMillis
    const share = allowance(topic.partitions, members, rank)
    const serving = Array.from(held.values()).filter(({ revoked }) => !Deferred.isDoneUnsafe(revoked))
    for (const { revoked } of serving.splice(share)) Deferred.doneUnsafe(revoked, Exit.void)
    if (serving.length < share && free + orphans.length > 0) yield* acquire(share - serving.length)
    return Math.min(renewMillis, nextExpiry === null ? Infinity : nextExpiry + 10)
  })

  /** The database is away, or another member is in our way: soon again. */
  const retryMillis = Math.min(1000, storedMillis / 6)
  const renew = Effect.catchIf(
    turns.withPermit(beat),
    (error) => error.isRetryable,
    (error) => Effect.as(Effect.logDebug(`cannot renew the leases for now: ${error.message}`), retryMillis)
  )
  const beatOn = Effect.gen(function* () {
    const seen = membership.version
    const rest = yield* renew
    yield* Effect.raceFirst(membership.changed(seen), Effect.sleep(rest))
  })

  /** It is no member any more, and holds nothing, or what it is still serving. */
  const leave = (holding: boolean) =>
    asCourtesy(
      db,
      turns.withPermit(rows(db.leases, `SELECT ${db.schema}.leave($1, $2, $3)`, [group.id, member, holding]))
    )

  yield* Effect.addFinalizer(() =>
    Effect.andThen(
      leave(false),
      Effect.sync(() => membership.notify())
    )
  )
  yield* inRealTime(renew)
  yield* Effect.forkScoped(
    inRealTime(Effect.forever(beatOn)).pipe(Effect.catch((error) => Queue.fail(assigned, error)))
  )
  return {
    next: Queue.take(assigned),
    leave: Effect.suspend(() => {
      leaving = true
      return leave(true).pipe(
        // What nobody has begun to serve.
        Effect.andThen(Queue.clear(assigned)),
        Effect.flatMap((rest) =>
          Effect.all(
            rest.map(({ release }) => release),
            { discard: true }
          )
        ),
        Effect.ignore
      )
    })
  }
})
