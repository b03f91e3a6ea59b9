/** What a run comes to: each entry that was attempted, and what became of it. */

/** What is known of the publishes, by the ids of the entries. */
export interface Published {
  readonly attempted: ReadonlySet<string>
  readonly acknowledged: ReadonlySet<string>
  /** Certainly not stored. */
  readonly failed: ReadonlySet<string>
}

/** What the stores hold in the end. */
export interface Found {
  /** How often each entry was booked. */
  readonly booked: ReadonlyMap<string, number>
  /** How often each receipt was published. */
  readonly receipts: ReadonlyMap<string, number>
  readonly dead: ReadonlySet<string>
  /** Entries that were booked after a later one of their account. */
  readonly disordered: ReadonlyArray<string>
  /** Accounts whose balance is not the sum of their bookings. */
  readonly unbalanced: ReadonlyArray<string>
  /** What was readable and not settled when the time for it was over. */
  readonly unsettled: number
}

/** As Jepsen counts. */
export interface Counts {
  readonly attempted: number
  readonly acknowledged: number
  /** Booked, each entry counted once. */
  readonly handled: number
  /** Booked, although nobody knew whether their publish had arrived. */
  readonly recovered: number
  /** Acknowledged, and neither booked nor dead. */
  readonly lost: number
  /** Booked, although never attempted, or certainly not stored. */
  readonly unexpected: number
  /** Bookings beyond the first of an entry. */
  readonly duplicated: number
  readonly dead: number
  /** Acknowledged entries that were booked after a later one of their account. */
  readonly disordered: number
  readonly unbalanced: number
  /** Receipts that are missing, twice there, or of no booking. */
  readonly receiptsWrong: number
  readonly unsettled: number
}

const count = <A>(values: Iterable<A>, holds: (value: A) => boolean): number => {
  let total = 0
  for (const value of values) if (holds(value)) total++
  return total
}

export const counts = ({ acknowledged, attempted, failed }: Published, found: Found): Counts => {
  const { booked, dead, receipts } = found
  let duplicated = 0
  for (const times of booked.values()) duplicated += times - 1
  return {
    attempted: attempted.size,
    acknowledged: acknowledged.size,
    handled: booked.size,
    recovered: count(booked.keys(), (id) => attempted.has(id) && !acknowledged.has(id) && !failed.has(id)),
    lost: count(acknowledged, (id) => !booked.has(id) && !dead.has(id)),
    unexpected: count(booked.keys(), (id) => !attempted.has(id) || failed.has(id)),
    duplicated,
    dead: dead.size,
    // A publish whose outcome is unknown may take effect at any time after it began.
    disordered: count(found.disordered, (id) => acknowledged.has(id)),
    unbalanced: found.unbalanced.length,
    receiptsWrong:
      count(booked, ([id, times]) => (receipts.get(id) ?? 0) !== times) +
      count(receipts.keys(), (id) => !booked.has(id)),
    unsettled: found.unsettled
  }
}

/** The names of the counts that have to be 0. */
const violations = [
  "lost",
  "unexpected",
  "duplicated",
  "disordered",
  "unbalanced",
  "receiptsWrong",
  "unsettled"
] as const satisfies ReadonlyArray<keyof Counts>

/** Which promises are broken. A run in which nothing was handled has shown nothing. */
export const broken = (counts: Counts): ReadonlyArray<string> => [
  ...(counts.handled === 0 ? ["handled: 0"] : []),
  ...violations.filter((name) => counts[name] > 0).map((name) => `${name}: ${counts[name]}`)
]
