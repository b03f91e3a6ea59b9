import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import { allowance } from "../../Backend.ts"
import type { DeadLetter } from "../../DeadLetters.ts"
import type { EncodedRecord } from "../../Envelope.ts"
import type { MemoryStore } from "../../MemoryStore.ts"
import type {
  Assignment,
  ClaimedRecord,
  Publish,
  PublisherLease,
  SubscribeOptions,
  Subscription,
  TopicDeclaration,
  Transport
} from "../../Transport.ts"
import { Fenced, InvalidState, RecordsGone, TransportError, type TransportErrorReason } from "../../TransportError.ts"
import { append, declareAt, type Site, site, storeWith } from "./log.ts"
import { type Cursor, type Group, groupKey, makeGroup, placeOf, type Tx, takeOver } from "./store.ts"
import { CurrentTx } from "./transaction.ts"

export const at = (here: Site): Transport["Service"] => {
  const { access: accessStore, node, store } = here
  const { leaseMillis, maxRecordBytes, retention } = store.settings

  const failed = (operation: string, topic: string, reason: TransportErrorReason) =>
    new TransportError({ operation, topic, reason })

  const declare = (topic: TopicDeclaration) => declareAt(here, topic)
  const publish = (topic: TopicDeclaration, records: ReadonlyArray<EncodedRecord>) =>
    storeWith(here, topic, records, (tx) => append(store, tx, topic.name, records))

  const fencedPublisher = ({ epoch, name, shard }: PublisherLease): Effect.Effect<Publish, TransportError> => {
    const place = JSON.stringify([name, shard])
    const fenced = new Fenced({ group: name, partition: shard, epoch })
    const isLatest = () => store.publishers.get(place) === epoch
    return accessStore("open", "*", (): Publish | TransportErrorReason => {
      if ((store.publishers.get(place) ?? epoch) > epoch) return fenced
      store.publishers.set(place, epoch)
      return (topic, records) =>
        storeWith(here, topic, records, (tx) => {
          tx.checks.push(isLatest)
          append(store, tx, topic.name, records)
        }).pipe(Effect.mapError((error) => (isLatest() ? error : failed("publish", topic.name, fenced))))
    })
  }

  const assign = (
    group: Group,
    cursor: Cursor,
    revoked: Deferred.Deferred<void, TransportError>,
    released: () => void
  ): Assignment => {
    const { epoch, partition } = cursor
    const log = store.logs.get(group.topic)!
    const records = log.partitions[partition]!
    const start = cursor.settled
    const suspectUntil = Math.max(cursor.claimed, cursor.settled)
    let position = start
    let redriven = group.redriven.version

    const holder = { group: group.name, partition, epoch }
    const held = () => cursor.epoch === epoch || store.unprotected.has("epoch")
    /** What only the holder may do: invariant 10. */
    const access = <A>(name: string, body: () => A, tx?: Tx, offset?: number) =>
      accessStore(name, group.topic, () => (held() ? body() : new Fenced(holder)), {
        holder: { ...holder, offset },
        transaction: tx
      })
    const change = (name: string, body: () => void, offset?: number) =>
      Effect.flatMap(CurrentTx, (tx) =>
        access(
          name,
          () => {
            if (tx === undefined) return body()
            tx.checks.push(held)
            tx.changes.push(body)
          },
          tx,
          offset
        )
      )

    const claim = (max: number): Effect.Effect<ReadonlyArray<ClaimedRecord>, TransportError> => {
      let seen: number
      return Effect.flatMap(
        access("claim", () => {
          seen = records.changed.version
          const claimed = records.after(position, max)
          cursor.claimed = Math.max(cursor.claimed, claimed[claimed.length - 1]?.offset ?? 0)
          return claimed.map((record) => ({ ...record, attempts: cursor.attempts.get(record.offset) }))
        }),
        (claimed) => {
          if (claimed.length === 0) return Effect.andThen(records.changed.changed(seen), claim(max))
          position = claimed[claimed.length - 1]!.offset
          return Effect.succeed(claimed)
        }
      )
    }

    return {
      partition,
      epoch,
      settled: start,
      suspectUntil,
      revoked: Deferred.await(revoked),
      seek: (offset) =>
        access("seek", () => {
          const { end, first } = records
          if (offset < first - 1 || offset > end) {
            const detail =
              end < first ? `it is empty, and goes on at offset ${first}` : `it holds offsets ${first} to ${end}`
            return new RecordsGone({ group: group.name, partition, settled: offset, detail })
          }
          position = offset
          return undefined
        }),
      claim,
      settle: (offset) =>
        change(
          "settle",
          () => {
            cursor.settled = Math.max(cursor.settled, offset)
            for (const counted of cursor.attempts.keys()) {
              if (counted <= offset && !cursor.parked.has(counted)) cursor.attempts.delete(counted)
            }
          },
          offset
        ),
      fence: change("fence", () => {}),
      count: (offset, attempts) =>
        access("count", () => {
          // Late: another worker's settlement has passed it (invariant 22).
          if (offset <= cursor.settled && !cursor.parked.has(offset)) return
          cursor.attempts.set(offset, attempts)
        }),
      redelivery: {
        added: Effect.suspend(() =>
          Effect.map(group.redriven.changed(redriven), () => {
            redriven = group.redriven.version
          })
        ),
        list: (after, max) =>
          accessStore("list", group.topic, () =>
            Array.from(cursor.parked.values())
              .filter(({ offset }) => offset > after)
              .sort((a, b) => a.offset - b.offset)
              .slice(0, max)
              .map(({ dueAt, key, offset }) => ({ offset, key, dueAt }))
          ),
        park: (parked) =>
          change("park", () => {
            for (const one of parked) {
              // A redriven one stays exempt from order.
              const known = cursor.parked.get(one.offset)
              cursor.parked.set(
                one.offset,
                known === undefined
                  ? { ...one, storedAt: records.storedAt(one.offset) }
                  : { ...known, dueAt: one.dueAt }
              )
            }
          }),
        read: (offsets) =>
          accessStore("read", group.topic, () =>
            offsets.flatMap((offset) => {
              const parked = cursor.parked.get(offset)
              return parked === undefined ? [] : [{ ...parked.record, attempts: cursor.attempts.get(offset) }]
            })
          ),
        settle: (offsets, letters) =>
          change("settle", () => {
            storeDeadLetters(group, letters)
            for (const offset of offsets) {
              cursor.parked.delete(offset)
              cursor.attempts.delete(offset)
            }
          })
      },
      deadLetter: (letters) => change("dead-letter", () => storeDeadLetters(group, letters)),
      release: Effect.sync(() => {
        released()
        if (node.alive && held()) giveBack(group, cursor)
      })
    }
  }

  const subscribe = (options: SubscribeOptions): Effect.Effect<Subscription, TransportError, Scope.Scope> =>
    Effect.gen(function* () {
      yield* declare(options.topic)
      const topic = options.topic.name
      const id = groupKey(topic, options.group)
      const group = yield* accessStore("subscribe", topic, () => {
        const existing = store.groups.get(id)
        if (existing !== undefined) return existing
        const made = makeGroup(topic, options.group, store.logs.get(topic)!, options.startFrom)
        store.groups.set(id, made)
        return made
      })
      const member = {}
      const assigned = yield* Queue.unbounded<Assignment>()
      const held = new Map<
        Cursor,
        { readonly epoch: number; readonly revoked: Deferred.Deferred<void, TransportError> }
      >()

      let leaving = false
      /** Renews what is held, learns what was lost, and moves towards a fair share. */
      const rebalance = (): void => {
        const now = store.now()
        const until = now + leaseMillis
        if (!leaving) {
          const joining = !group.members.has(member)
          group.members.set(member, until)
          if (joining) group.membership.notify()
        }
        for (const [other, alive] of group.members) if (alive <= now) group.members.delete(other)
        for (const [cursor, lease] of held) {
          if (cursor.epoch !== lease.epoch) {
            held.delete(cursor)
            const reason = new Fenced({ group: group.name, partition: cursor.partition, epoch: lease.epoch })
            Deferred.doneUnsafe(lease.revoked, Effect.fail(failed("lease", topic, reason)))
          } else if (cursor.holder === undefined) {
            held.delete(cursor)
          } else {
            cursor.leaseUntil = until
          }
        }
        // What was released while the store could not be reached.
        for (const cursor of group.cursors) {
          if (cursor.holder === member && !held.has(cursor)) giveBack(group, cursor)
        }
        if (leaving) return
        const members = Array.from(group.members.keys())
        const share = allowance(group.cursors.length, members.length, members.indexOf(member))
        let serving = 0
        for (const lease of held.values()) if (!Deferred.isDoneUnsafe(lease.revoked)) serving++
        for (const lease of held.values()) {
          if (serving <= share) break
          if (!Deferred.isDoneUnsafe(lease.revoked)) {
            Deferred.doneUnsafe(lease.revoked, Effect.void)
            serving--
          }
        }
        for (const cursor of group.cursors) {
          if (serving >= share) break
          if (cursor.leaseUntil > now) continue
          takeOver(cursor, member, until)
          const lease = { epoch: cursor.epoch, revoked: Deferred.makeUnsafe<void, TransportError>() }
          held.set(cursor, lease)
          const released = () => {
            if (held.get(cursor) === lease) held.delete(cursor)
          }
          Queue.offerUnsafe(assigned, assign(group, cursor, lease.revoked, released))
          serving++
        }
      }

      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          if (!node.alive) return
          group.members.delete(member)
          for (const [cursor, lease] of held) {
            if (cursor.epoch === lease.epoch && cursor.holder === member) {
              cursor.holder = undefined
              cursor.leaseUntil = 0
            }
          }
          group.membership.notify()
        })
      )
      rebalance()
      let seen = group.membership.version
      const heartbeat = Effect.suspend(() => {
        seen = group.membership.version
        return Effect.ignore(accessStore("heartbeat", topic, rebalance))
      })
      const beating = Effect.forever(Effect.andThen(heartbeat, Effect.sleep(leaseMillis / 3)), { disableYield: true })
      const following = Effect.forever(
        Effect.suspend(() => Effect.andThen(group.membership.changed(seen), heartbeat)),
        { disableYield: true }
      )
      yield* Effect.forkScoped(beating)
      yield* Effect.forkScoped(following)
      return {
        next: Queue.take(assigned),
        leave: Effect.suspend(() => {
          leaving = true
          if (node.alive) {
            group.members.delete(member)
            group.membership.notify()
          }
          // What nobody has begun to serve.
          return Effect.flatMap(Queue.clear(assigned), (rest) =>
            Effect.all(
              rest.map(({ release }) => release),
              { discard: true }
            )
          )
        })
      }
    })

  return {
    characteristics: {
      name: "memory",
      layer: "Transport.layerMemory",
      durable: "no: lost when the process ends",
      order: "per partition, in publish order",
      crossProcess: false,
      transactional: true,
      redelivery: true,
      gaps: [
        {
          allows: "loss",
          when: "the process ends, and everything in its memory with it",
          raisedBy: "PgTransport.layer of @surety/pg"
        }
      ],
      assumptions: [],
      anomalies: ["everything is lost with the process"]
    },
    maxRecordBytes,
    bounds: {
      retention: retention.log === "forever" ? "forever" : Duration.millis(retention.log),
      lease: Duration.millis(leaseMillis)
    },
    store,
    declare,
    publish,
    fencedPublisher,
    inTransaction: Effect.map(CurrentTx, (tx) => tx !== undefined),
    outsideTransaction: Effect.provideService(CurrentTx, undefined),
    subscribe,
    progress: (topic, name) =>
      accessStore("progress", topic, () => {
        const group = store.groups.get(groupKey(topic, name))
        if (group === undefined) return new InvalidState({ detail: `group "${name}" is not registered` })
        const log = store.logs.get(topic)!
        return group.cursors.map(({ parked, partition, settled }) => {
          // One that the cursor has not passed is counted with what lies beyond it.
          const passed = Array.from(parked.keys()).filter((offset) => offset <= settled).length
          return { partition, settled, lag: log.partitions[partition]!.count(settled) + passed, parked: parked.size }
        })
      })
  }
}

export const make: Effect.Effect<Transport["Service"], never, MemoryStore> = Effect.map(site, at)

/** In order: whatever was claimed and not settled was not interrupted by a crash. */
const giveBack = (group: Group, cursor: Cursor): void => {
  cursor.claimed = cursor.settled
  cursor.holder = undefined
  cursor.leaseUntil = 0
  group.membership.notify()
}

export const storeDeadLetters = (group: Group, letters: ReadonlyArray<DeadLetter>): void => {
  for (const letter of letters) group.deadLetters.set(placeOf(letter.record), letter)
}
