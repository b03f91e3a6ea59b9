/**
 * A member of a group: fetches, and hands the partitions that come and go to
 * the engine.
 *
 * The client calls back when partitions are to be taken up or given back, and
 * waits for our answer. They are answered in their order; a partition is given
 * back once the engine has released it (rule 5).
 */
import { Signal } from "@surety/core/Backend"
import type { Assignment, SubscribeOptions, Subscription } from "@surety/core/Transport"
import { RecordsGone, TransportError } from "@surety/core/TransportError"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { Aside } from "./aside.ts"
import type { Cluster } from "./cluster.ts"
import { Commits } from "./commits.ts"
import { deadLetter } from "./deadLetter.ts"
import { failure, reasonOf } from "./errors.ts"
import { type Client, type Consumer, call, type KafkaError } from "./librdkafka.ts"
import * as memo from "./memo.ts"
import { earliest, type Offsets, stable } from "./offsets.ts"
import { Partition, type Surroundings } from "./partition.ts"
import type { Producer } from "./producer.ts"

/** How many records are taken from the client at once. */
const fetchSize = 1_000

/** How long an idle member waits for the client to say that there is something, before it looks. */
const look = Effect.sleep("200 millis")

const again = Schedule.spaced("100 millis")

/** What the client asks for. */
export interface Rebalance {
  readonly assigns: boolean
  /** It has happened already: others may have the partitions. */
  readonly lost: boolean
  readonly partitions: ReadonlyArray<number>
}

type Committed = Client.TopicPartitionOffsetAndMetadata

export class Member implements Subscription {
  readonly #cluster: Cluster
  readonly #topic: string
  readonly #consumer: Consumer
  readonly #scope: Scope.Scope
  readonly #starts: Offsets
  readonly #around: Surroundings
  /** What the client asked for, and did not have answered yet. */
  readonly rebalances: Queue.Queue<Rebalance>
  readonly commits: Commits
  /** The client has something. */
  readonly woken = new Signal()
  readonly #assigned: Queue.Queue<Partition>
  readonly #failing = Deferred.makeUnsafe<never, TransportError>()
  readonly #first = Deferred.makeUnsafe<void>()
  readonly #held = new Map<number, Partition>()
  /** Those that the engine has been given, and has not released. */
  readonly #served = new Set<Partition>()
  readonly #fetching = Semaphore.makeUnsafe(1)
  readonly #changed = new Signal()
  /** Of partitions whose end was reached by the fetch that is under way. The client tells of them before it hands over the records. */
  #ends: Array<Client.EofEvent> = []
  #leaving = false
  #closing = false

  constructor(options: {
    readonly cluster: Cluster
    readonly subscription: SubscribeOptions
    readonly consumer: Consumer
    readonly scope: Scope.Scope
    readonly starts: Offsets
    readonly rebalances: Queue.Queue<Rebalance>
    readonly assigned: Queue.Queue<Partition>
    readonly producer: Producer
  }) {
    const { consumer, subscription } = options
    const { group, topic } = subscription
    this.#cluster = options.cluster
    this.#topic = topic.name
    this.#consumer = consumer
    this.#scope = options.scope
    this.#starts = options.starts
    this.rebalances = options.rebalances
    this.#assigned = options.assigned
    this.commits = new Commits(consumer, topic.name, group)
    this.#around = {
      consumer,
      topic: topic.name,
      group,
      commits: this.commits,
      deadLetter: deadLetter(options.cluster, options.producer),
      aside: (partition) => new Aside(options.cluster, options.producer, topic, group, partition),
      seek: (partition, settled, then) => this.#seekAfter(partition, settled, then),
      released: (partition) => this.#released(partition)
    }
    consumer.on("partition.eof", (end) => void this.#ends.push(end))
  }

  get next(): Effect.Effect<Assignment, TransportError> {
    return Effect.raceFirst(Queue.take(this.#assigned), Deferred.await(this.#failing)).pipe(
      Effect.flatMap((partition) => {
        // Taken back before anybody took it.
        if (!partition.held) return this.next
        this.#served.add(partition)
        return Effect.succeed(partition.assignment)
      })
    )
  }

  /** Completes when the group is known to the brokers: by this member, or by another one before it. */
  get registered(): Effect.Effect<void, TransportError> {
    const known = Effect.map(this.#committed(Array.from(this.#starts.keys())), (found) =>
      found.every(({ offset }) => offset >= 0)
    )
    return known.pipe(
      Effect.mapError(this.#failed),
      Effect.repeat({ until: (all) => all, schedule: Schedule.spaced("250 millis") }),
      Effect.raceFirst(Deferred.await(this.#first)),
      Effect.raceFirst(Deferred.await(this.#failing)),
      Effect.asVoid
    )
  }

  get leave(): Effect.Effect<void> {
    return Effect.sync(() => {
      if (this.#leaving) return
      this.#leaving = true
      try {
        this.#consumer.unsubscribe()
      } catch {
        // It was in no group.
      }
    })
  }

  /** Rule 13: everything is given back, and no fetch is under way, when the client is disconnected. */
  get close(): Effect.Effect<void> {
    return Effect.suspend(() => {
      // Whom nobody serves any more.
      this.#closing = true
      this.#changed.notify()
      return this.leave
    }).pipe(
      Effect.andThen(
        Effect.timeoutOption(
          this.#until(() => this.#held.size === 0),
          "2 seconds"
        )
      ),
      Effect.andThen(this.#fetching.take(1)),
      Effect.asVoid
    )
  }

  /** Answers the client, and fetches. */
  get run(): Effect.Effect<void> {
    return Effect.asVoid(
      Effect.all([this.#answer, this.#fetch], { concurrency: 2 }).pipe(
        Effect.catch((error) => Deferred.fail(this.#failing, this.#failed(error)))
      )
    )
  }

  get #failed() {
    return failure("subscribe", this.#topic)
  }

  #until(holds: () => boolean): Effect.Effect<void> {
    return Effect.suspend(() => {
      const seen = this.#changed.version
      return holds() ? Effect.void : Effect.andThen(this.#changed.changed(seen), this.#until(holds))
    })
  }

  #toppar(partition: number): Client.TopicPartition {
    return { topic: this.#topic, partition }
  }

  /** Stable ones: the client waits for what open transactions are to add. */
  #committed(partitions: ReadonlyArray<number>): Effect.Effect<ReadonlyArray<Committed>, KafkaError> {
    return call<Array<Committed>>(this.#consumer, (callback) =>
      this.#consumer.committed(
        partitions.map((partition) => this.#toppar(partition)),
        5_000,
        callback as never
      )
    ).pipe(Effect.retry({ schedule: again, while: (error) => !this.#closing && reasonOf(error).isRetryable }))
  }

  readonly #answer: Effect.Effect<never, KafkaError> = Effect.suspend(() => Queue.take(this.rebalances)).pipe(
    Effect.flatMap(({ assigns, lost, partitions }) =>
      assigns ? this.#assign(partitions) : this.#revoke(partitions, lost)
    ),
    Effect.forever
  )

  #assign(partitions: ReadonlyArray<number>): Effect.Effect<void, KafkaError> {
    return Effect.gen({ self: this }, function* () {
      const committed = partitions.length === 0 ? [] : yield* this.#committed(partitions)
      const taken = committed.map((from) => this.#from(from))
      for (const partition of taken) this.#held.set(partition.partition, partition)
      yield* this.#instruct(() =>
        this.#consumer.incrementalAssign(
          taken.map(({ nextOffset, partition }) => ({ ...this.#toppar(partition), offset: nextOffset }))
        )
      )
      const handed = Effect.forEach(taken, (partition) => this.#hand(partition), { concurrency: "unbounded" })
      yield* Effect.forkIn(Effect.andThen(handed, Deferred.succeed(this.#first, undefined)), this.#scope)
    })
  }

  #revoke(partitions: ReadonlyArray<number>, lost: boolean): Effect.Effect<void> {
    return Effect.gen({ self: this }, function* () {
      const asked = partitions.flatMap((partition) => this.#held.get(partition) ?? [])
      for (const partition of asked) {
        // Rule 4: nothing is stored any more once the assignment was lost.
        if (lost) partition.lose()
        else partition.revoke()
      }
      // Rule 5: within a part of the time that the group allows. A partition whose transaction is open waits for its end.
      yield* Effect.timeoutOption(
        this.#until(() => this.#closing || asked.every((partition) => !this.#served.has(partition))),
        this.#cluster.rebalanceMillis / 2
      )
      for (const partition of asked) {
        partition.lose()
        this.#held.delete(partition.partition)
      }
      yield* this.#instruct(() =>
        this.#consumer.incrementalUnassign(partitions.map((partition) => this.#toppar(partition)))
      )
      this.#changed.notify()
    })
  }

  /** The client refuses what it has given up by itself meanwhile. */
  #instruct(body: () => void): Effect.Effect<void> {
    return this.#fetching.withPermit(
      Effect.ignore(Effect.try({ try: body, catch: (error) => error }), { log: "Debug" })
    )
  }

  #from({ metadata, offset, partition }: Committed): Partition {
    const committed = typeof offset === "number" && offset >= 0 ? offset : this.#starts.get(partition)!
    return new Partition(this.#around, partition, committed, memo.decode(metadata))
  }

  /** Gives the engine a partition once its epoch is stored. */
  #hand(partition: Partition): Effect.Effect<void> {
    return partition.begin.pipe(
      Effect.retry({ schedule: again, while: ({ isRetryable }) => isRetryable && partition.held }),
      Effect.andThen(Effect.sync(() => void Queue.offerUnsafe(this.#assigned, partition))),
      Effect.catch((error) => {
        if (error.reason._tag !== "Fenced" && !error.isRetryable)
          return Effect.asVoid(Deferred.fail(this.#failing, error))
        // Taken away, or the group has gone on meanwhile: then it is taken up once more.
        partition.withdraw()
        return this.#released(partition)
      })
    )
  }

  #released(partition: Partition): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.#served.delete(partition)
      this.#changed.notify()
      const ours = () => !this.#leaving && this.#held.get(partition.partition) === partition
      if (!ours() || partition.isRevoked) return Effect.void
      // It was given up, and nobody asked for it: it comes again, from what is stored.
      const takeUp = Effect.andThen(
        Effect.sleep("200 millis"),
        Effect.suspend(() => (ours() && !partition.isRevoked ? this.#takeUp(partition) : Effect.void))
      )
      return Effect.asVoid(Effect.forkIn(takeUp, this.#scope))
    })
  }

  #takeUp(former: Partition): Effect.Effect<void> {
    const number = former.partition
    return Effect.gen({ self: this }, function* () {
      const [committed] = yield* this.#committed([number])
      const partition = this.#from(committed!)
      // Between fetches: one that is under way brings what was from before. Rule 8: the client does not go back by itself.
      yield* this.#seek(number, partition.nextOffset, () => {
        // Unless it was taken away meanwhile.
        if (this.#held.get(number) === former && !former.isRevoked) this.#held.set(number, partition)
        partition.resume()
      })
      if (this.#held.get(number) === partition) yield* this.#hand(partition)
    }).pipe(
      Effect.mapError(this.#failed),
      Effect.retry({
        schedule: again,
        while: ({ isRetryable }) => isRetryable && this.#held.get(number) === former && !former.isRevoked
      }),
      Effect.catch((error) => (error.isRetryable ? Effect.void : Effect.asVoid(Deferred.fail(this.#failing, error))))
    )
  }

  /** Between fetches: one that is under way brings what was from before. Rule 8: the client does not go back by itself. */
  #seek(partition: number, offset: number, then: () => void): Effect.Effect<void, KafkaError> {
    return this.#fetching.withPermit(
      call<void>(this.#consumer, (callback) =>
        this.#consumer.seek({ ...this.#toppar(partition), offset }, 5_000, callback)
      ).pipe(Effect.andThen(Effect.sync(then)))
    )
  }

  #seekAfter(held: Partition, settled: number, then: (next: number) => void): Effect.Effect<void, TransportError> {
    const { partition } = held
    const next = held.after(settled)
    const topic = { name: this.#topic, partitions: this.#starts.size }
    return Effect.gen({ self: this }, function* () {
      const first = (yield* earliest(this.#cluster, topic)).get(partition)!
      const end = (yield* stable(this.#cluster, topic)).get(partition)!
      if (next < first || next > end) {
        const detail = `it holds offsets from ${first} to before ${end}`
        const reason = new RecordsGone({ group: this.#around.group, partition, settled, detail })
        return yield* Effect.fail(new TransportError({ operation: "seek", topic: this.#topic, reason }))
      }
      yield* Effect.mapError(
        this.#seek(partition, next, () => then(next)),
        this.#failed
      )
    })
  }

  readonly #fetch: Effect.Effect<never, KafkaError> = Effect.suspend(() => {
    const seen = this.woken.version
    return this.#fetching
      .withPermit(this.#fetchOnce)
      .pipe(Effect.flatMap((count) => (count > 0 ? Effect.yieldNow : Effect.raceFirst(this.woken.changed(seen), look))))
  }).pipe(Effect.forever)

  /** Not to be interrupted: the client does not bear to be left in the middle of it (rule 13). */
  get #fetchOnce(): Effect.Effect<number, KafkaError> {
    return call<Array<Client.Message>>(this.#consumer, (callback) =>
      this.#consumer.consume(fetchSize, callback as never)
    ).pipe(
      Effect.map((messages) => {
        for (const message of messages) {
          const partition = this.#held.get(message.partition)
          if (partition?.held === true) partition.fetched(message)
        }
        for (const { offset, partition } of this.#ends) this.#held.get(partition)?.reachedEnd(offset)
        this.#ends = []
        return messages.length
      }),
      Effect.catch((error) =>
        error.isFatal !== true && reasonOf(error).isRetryable ? Effect.as(look, 0) : Effect.fail(error)
      ),
      Effect.uninterruptible
    )
  }
}
