/** One partition that a member holds: what was fetched of it, how far it is settled, and what its group remembers. */
import { Signal } from "@surety/core/Backend"
import type { DeadLetter } from "@surety/core/DeadLetters"
import type { Assignment, Attempts, ClaimedRecord, RecordToPark } from "@surety/core/Transport"
import type { TransportError } from "@surety/core/TransportError"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Semaphore from "effect/Semaphore"
import type { Aside } from "./aside.ts"
import type { Commits, Holder } from "./commits.ts"
import type { Client, Consumer } from "./librdkafka.ts"
import * as memo from "./memo.ts"
import { decode } from "./records.ts"
import { CurrentTransaction } from "./transaction.ts"

/** More fetched records than this stop the fetching of the partition, until there are so few again. */
const highWater = 2_000
const lowWater = 500

/** So many more are called claimed than are: claims seldom wait for a commit of their own. */
export const claimsAhead = 256

export interface Fetched {
  readonly record: Omit<ClaimedRecord, "attempts">
  readonly redrivenTo: string | undefined
  readonly leaderEpoch: number | undefined
}

/** What a partition needs of its member. */
export interface Surroundings {
  readonly consumer: Consumer
  readonly commits: Commits
  readonly topic: string
  readonly group: string
  readonly deadLetter: (letters: ReadonlyArray<DeadLetter>) => Effect.Effect<void, TransportError>
  readonly aside: (partition: number) => Aside
  /** Fetching goes on after an offset, where everything after it is there; `then` is told from where, between two fetches. */
  readonly seek: (
    partition: Partition,
    settled: number,
    then: (next: number) => void
  ) => Effect.Effect<void, TransportError>
  /** It was given back. */
  readonly released: (partition: Partition) => Effect.Effect<void>
}

export class Partition implements Holder {
  readonly partition: number
  readonly epoch: number
  held = true
  readonly #revoked = Deferred.makeUnsafe<void, TransportError>()
  #released = false
  readonly #around: Surroundings
  readonly #aside: Aside
  readonly #start: number
  readonly #suspectUntil: number
  #together: boolean
  readonly #changed = new Signal()
  readonly #attempts: Map<number, Attempts>
  readonly #storing = Semaphore.makeUnsafe(1)
  #fetched: Array<Fetched> = []
  #head = 0
  #paused = false
  /** The last offset that is stored as settled. */
  #settled: number
  /** The last offset that was claimed, or passed over; and the last one that is stored as claimed. */
  #claimed: number
  #reserved: number
  /** The last record that was claimed, here or by an earlier holder, where it is known. */
  #last: number
  /** From where the next record may come: after records of aborted transactions, and markers, of which there is nothing to claim. */
  #end: number
  /** By offset, where they change (rule 9). */
  #leaderEpochs: Array<{ readonly from: number; readonly epoch: number }> = []

  constructor(around: Surroundings, partition: number, committed: number, known: memo.Memo | undefined) {
    this.#around = around
    this.partition = partition
    this.#aside = around.aside(partition)
    // A group that a tool has reset, or whose offsets have expired, does not begin with epochs that it has used.
    this.epoch = known === undefined ? Math.floor(Date.now() / 1000) : known.epoch + 1
    this.#start = committed - 1
    this.#settled = this.#start
    this.#claimed = this.#start
    this.#last = known?.last ?? this.#start
    this.#end = committed
    this.#suspectUntil = memo.suspectUntil(known, committed)
    this.#together = known?.together ?? false
    this.#reserved = this.#suspectUntil
    this.#attempts = new Map(Array.from(known?.attempts ?? []).filter(([offset]) => offset >= committed))
  }

  /** Stores the epoch, and what is settled: from then on whoever reads the group's progress finds it. */
  get begin(): Effect.Effect<void, TransportError> {
    return Effect.andThen(this.#aside.load, this.#commit(this.#settled))
  }

  /** It is to be given back. */
  revoke(): void {
    Deferred.doneUnsafe(this.#revoked, Effect.void)
  }

  get isRevoked(): boolean {
    return Deferred.isDoneUnsafe(this.#revoked)
  }

  /** Where fetching begins. */
  get nextOffset(): number {
    return this.#start + 1
  }

  /** Where the records after a settled one begin: beyond what the group has stored to have nothing to claim. */
  after(settled: number): number {
    return settled >= this.#last ? Math.max(settled, this.#start) + 1 : settled + 1
  }

  /** Nobody has begun to serve it, and nobody is to. */
  withdraw(): void {
    this.held = false
  }

  /** It is not ours any more: nothing is stored from now on. */
  lose(): void {
    this.held = false
    this.#fetched = []
    this.#head = 0
    this.#around.commits.lost(this)
    Deferred.doneUnsafe(this.#revoked, Effect.fail(this.#around.commits.fenced(this, "lease")))
    this.#changed.notify()
  }

  fetched(message: Client.Message): void {
    const { redrivenTo, ...record } = decode(message)
    this.#fetched.push({
      record: { ...record, partition: this.partition, offset: message.offset },
      redrivenTo,
      leaderEpoch: message.leaderEpoch
    })
    this.#changed.notify()
    if (!this.#paused && this.#buffered > highWater) this.#pause()
  }

  /** Everything up to here was fetched. */
  reachedEnd(offset: number): void {
    this.#end = Math.max(this.#end, offset)
    this.#tidy()
  }

  get #buffered(): number {
    return this.#fetched.length - this.#head
  }

  get #toppar(): Client.TopicPartition {
    return { topic: this.#around.topic, partition: this.partition }
  }

  /** Backpressure. */
  #pause(): void {
    this.#paused = true
    try {
      this.#around.consumer.pause([this.#toppar])
    } catch {
      // It is being taken away.
    }
  }

  /** Rule 6: also for one whose last holder here had paused it. */
  resume(): void {
    this.#paused = false
    try {
      this.#around.consumer.resume([this.#toppar])
    } catch {
      // It is being taken away.
    }
  }

  #offsetOf(settled: number) {
    // Rule 9: everything that was fetched is settled, and what follows has nothing to claim.
    const idle = settled >= this.#claimed && this.#buffered === 0
    const offset = idle ? Math.max(settled + 1, this.#end) : settled + 1
    const leaderEpoch = this.#leaderEpochs.findLast(({ from }) => from < offset)?.epoch
    return {
      ...this.#toppar,
      offset,
      ...(leaderEpoch === undefined ? {} : { leaderEpoch })
    }
  }

  #memoOf(settled: number, claimed: number): string {
    const attempts = new Map(Array.from(this.#attempts).filter(([offset]) => offset > settled))
    return memo.encode({
      epoch: this.epoch,
      claimed,
      began: this.#start + 1,
      together: this.#together,
      last: Math.min(settled, this.#last),
      aside: this.#aside.size,
      passed: this.#aside.passed(settled),
      attempts
    })
  }

  /** One at a time, and none beside a transaction with an offset of the partition: the older one could win. */
  #commit(upTo: number): Effect.Effect<void, TransportError> {
    return this.#storing.withPermit(
      Effect.suspend(() => {
        if (!this.held) return Effect.fail(this.#around.commits.fenced(this, "settle"))
        const settled = Math.max(upTo, this.#settled)
        // What was not settled by now was not interrupted by a crash: nothing that is stored after the last of it says so.
        const claimed = this.#released ? settled : this.#claimed + claimsAhead
        const offset = { ...this.#offsetOf(settled), metadata: this.#memoOf(settled, claimed) }
        return Effect.map(this.#around.commits.commit(this, offset), () => this.#stored(settled, claimed))
      })
    )
  }

  #stored(settled: number, claimed: number): void {
    this.#settled = Math.max(this.#settled, settled)
    this.#reserved = Math.max(this.#reserved, claimed)
    for (const offset of this.#attempts.keys()) if (offset <= settled) this.#attempts.delete(offset)
  }

  /** Passes what has nothing to claim, once everything before it is settled. */
  #tidy(): void {
    if (!this.held || this.#settled + 1 >= this.#end || this.#settled < this.#claimed || this.#buffered > 0) return
    const passed = this.#end - 1
    Effect.runFork(
      Effect.ignore(
        Effect.map(this.#commit(this.#settled), () => {
          // Unless more has come meanwhile.
          if (this.#claimed <= this.#settled) this.#settled = Math.max(this.#settled, passed)
        })
      )
    )
  }

  #take(max: number): ReadonlyArray<ClaimedRecord> {
    const taken: Array<ClaimedRecord> = []
    while (taken.length < max && this.#head < this.#fetched.length) {
      const { leaderEpoch, record, redrivenTo } = this.#fetched[this.#head++]!
      const known = this.#leaderEpochs[this.#leaderEpochs.length - 1]
      if (leaderEpoch !== undefined && leaderEpoch >= 0 && known?.epoch !== leaderEpoch) {
        this.#leaderEpochs = [...this.#leaderEpochs.slice(-7), { from: record.offset, epoch: leaderEpoch }]
      }
      this.#end = Math.max(this.#end, record.offset + 1)
      if (redrivenTo !== undefined && redrivenTo !== this.#around.group) continue
      this.#claimed = record.offset
      this.#last = record.offset
      taken.push({ ...record, attempts: this.#attempts.get(record.offset) })
    }
    if (this.#head === this.#fetched.length || this.#head > highWater) {
      this.#fetched = this.#fetched.slice(this.#head)
      this.#head = 0
    }
    if (this.#paused && this.#buffered < lowWater) this.resume()
    if (taken.length === 0) this.#tidy()
    return taken
  }

  #claim(max: number): Effect.Effect<ReadonlyArray<ClaimedRecord>, TransportError> {
    return Effect.suspend(() => {
      if (!this.held) return Effect.fail(this.#around.commits.fenced(this, "claim"))
      const seen = this.#changed.version
      const taken = this.#take(max)
      if (taken.length === 0) return Effect.andThen(this.#changed.changed(seen), this.#claim(max))
      if (this.#claimed <= this.#reserved) return Effect.succeed(taken)
      // Invariant 13: that they are claimed is stored first.
      return Effect.as(
        Effect.onError(this.#commit(this.#settled), () =>
          Effect.sync(() => {
            this.#putBack(taken)
          })
        ),
        taken
      )
    })
  }

  /** A claim that was not stored is made again. */
  #putBack(taken: ReadonlyArray<ClaimedRecord>): void {
    const back = taken.map(
      ({ attempts: _, ...record }): Fetched => ({ record, redrivenTo: undefined, leaderEpoch: undefined })
    )
    this.#fetched = [...back, ...this.#fetched.slice(this.#head)]
    this.#head = 0
    this.#claimed = Math.max(this.#settled, taken[0]!.offset - 1)
    this.#last = this.#claimed
    this.#changed.notify()
  }

  #settle(offset: number): Effect.Effect<void, TransportError> {
    const { commits, consumer } = this.#around
    return Effect.flatMap(CurrentTransaction, (transaction) => {
      if (transaction === undefined) return Effect.map(this.#commit(offset), () => this.#tidy())
      return Effect.flatMap(this.#storing.take(1), () => {
        transaction.ended.push((committed) => {
          if (committed) this.#stored(offset, claimed)
          Effect.runSync(this.#storing.release(1))
          if (committed) this.#tidy()
        })
        this.#together = true
        const claimed = this.#claimed + claimsAhead
        if (!this.held) return Effect.fail(commits.fenced(this, "settle"))
        transaction.settle(consumer, this, { ...this.#offsetOf(offset), metadata: this.#memoOf(offset, claimed) })
        return Effect.void
      })
    })
  }

  /**
   * Invariant 10, as far as it goes: the broker checks the generation before
   * anything is written. Afterwards the group's progress tells how much is aside.
   */
  #keep(write: Effect.Effect<void, TransportError>): Effect.Effect<void, TransportError> {
    const commit = Effect.suspend(() => this.#commit(this.#settled))
    return commit.pipe(Effect.andThen(write), Effect.andThen(commit))
  }

  #park(records: ReadonlyArray<RecordToPark>): Effect.Effect<void, TransportError> {
    return Effect.suspend(() =>
      this.#keep(
        this.#aside.store(
          records.map(({ dueAt, key, offset, record }) => {
            const known = this.#aside.get(offset)
            return known === undefined
              ? { record, key, dueAt, attempts: this.#attempts.get(offset) }
              : { ...known, dueAt }
          })
        )
      )
    )
  }

  #count(offset: number, attempts: Attempts): Effect.Effect<void, TransportError> {
    return Effect.suspend(() => {
      const kept = this.#aside.get(offset)
      if (kept !== undefined) return this.#keep(this.#aside.store([{ ...kept, attempts }]))
      this.#attempts.set(offset, attempts)
      return this.#commit(this.#settled)
    })
  }

  /** Where the group's progress is kept elsewhere: fetching goes on there. */
  #seek(offset: number): Effect.Effect<void, TransportError> {
    return this.#around.seek(this, offset, (next) => {
      this.#fetched = []
      this.#head = 0
      this.#claimed = offset
      this.#last = offset
      this.#settled = offset
      // What was fetched before comes again: that its end was reached says nothing now.
      this.#end = next
    })
  }

  /** Given back in order: whatever was claimed and not settled was not interrupted by a crash. */
  get #release(): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.#released) return Effect.void
      this.#released = true
      const last = this.#commit(this.#settled).pipe(
        Effect.retry({ schedule: Schedule.spaced("50 millis"), while: ({ isRetryable }) => isRetryable && this.held }),
        Effect.timeout("5 seconds")
      )
      return (this.held ? Effect.ignore(last) : Effect.void).pipe(
        Effect.andThen(
          Effect.sync(() => {
            this.held = false
            this.#changed.notify()
          })
        ),
        Effect.andThen(this.#around.released(this))
      )
    })
  }

  get assignment(): Assignment {
    const { commits, deadLetter } = this.#around
    return {
      partition: this.partition,
      epoch: this.epoch,
      settled: this.#start,
      suspectUntil: this.#suspectUntil,
      revoked: Deferred.await(this.#revoked),
      claim: (max) => this.#claim(max),
      settle: (offset) => this.#settle(offset),
      fence: Effect.flatMap(CurrentTransaction, (transaction) => {
        if (!this.held) return Effect.fail(commits.fenced(this, "fence"))
        // With the offset that is settled anyway the broker checks the member's generation.
        return transaction === undefined ? this.#commit(this.#settled) : this.#settle(this.#settled)
      }),
      count: (offset, attempts) => this.#count(offset, attempts),
      seek: (offset) => this.#seek(offset),
      redelivery: {
        // A redrive appends its messages to the log.
        added: Effect.never,
        list: (after, max) => Effect.sync(() => this.#aside.list(after, max)),
        park: (records) => this.#park(records),
        read: (offsets) => Effect.sync(() => this.#aside.read(offsets)),
        // Stored before the message is forgotten (invariant 4).
        settle: (offsets, letters) => this.#keep(Effect.andThen(deadLetter(letters), this.#aside.forget(offsets)))
      },
      deadLetter: (letters) =>
        Effect.suspend(() => (this.held ? deadLetter(letters) : Effect.fail(commits.fenced(this, "dead-letter")))),
      release: this.#release
    }
  }
}
