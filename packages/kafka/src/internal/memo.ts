/**
 * What a group remembers of a partition beside its offset, in the metadata of
 * the committed offset: it is stored with it, refused with it, and read by the
 * partition's next holder.
 */
import type { Attempts } from "@surety/core/Transport"

export interface Memo {
  /** Of the last holder. */
  readonly epoch: number
  /** Up to here the holder may have claimed. */
  readonly claimed: number
  /** The offset from which the holder began. */
  readonly began: number
  /** Whether the group settles in transactions, many messages at once. */
  readonly together: boolean
  /** Between it and the committed offset there is nothing to claim: markers, and records of aborted transactions. */
  readonly last: number
  /** How many records the group keeps aside, and how many of them its cursor has passed. */
  readonly aside: number
  readonly passed: number
  readonly attempts: ReadonlyMap<number, Attempts>
}

/**
 * The last record that may have ended its process. A group that settles in
 * transactions would handle each of those in one of its own: it begins with that
 * only after a holder has ended without any progress.
 */
export const suspectUntil = (known: Memo | undefined, committed: number): number =>
  known === undefined || (known.together && known.began !== committed)
    ? committed - 1
    : Math.max(known.claimed, committed - 1)

/** Brokers take 4,096 bytes by default (`offset.metadata.max.bytes`). */
const maxAttempts = 150

/** Counts beyond the first ones by offset are forgotten with the process. */
export const encode = ({ aside, attempts, began, claimed, epoch, last, passed, together }: Memo): string =>
  JSON.stringify({
    surety: 1,
    epoch,
    claimed,
    began,
    together,
    last,
    aside,
    passed,
    attempts: Array.from(attempts)
      .sort(([a], [b]) => a - b)
      .slice(0, maxAttempts)
      .map(([offset, { claims, failures }]) => [offset, claims, failures])
  })

/** None where another program has committed, or a tool has reset the group. */
export const decode = (metadata: string | null | undefined): Memo | undefined => {
  if (metadata === null || metadata === undefined || !metadata.startsWith('{"surety":1,')) return undefined
  try {
    const { aside = 0, attempts, began, claimed, epoch, last, passed = 0, together } = JSON.parse(metadata)
    return {
      epoch,
      claimed,
      began,
      together,
      last,
      aside,
      passed,
      attempts: new Map(
        (attempts as ReadonlyArray<readonly [number, number, number]>).map(([offset, claims, failures]) => [
          offset,
          { claims, failures }
        ])
      )
    }
  } catch {
    return undefined
  }
}
