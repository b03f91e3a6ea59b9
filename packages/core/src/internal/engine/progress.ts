/**
 * Which of the claimed records of a partition are settled, and how far the
 * settled ones reach without a gap. Records settle out of order across keys;
 * progress is stored in order.
 */
export class Progress {
  /** The offset that is stored. */
  stored: number
  #reached: number
  readonly #open: Array<number> = []
  readonly #settled = new Set<number>()
  #head = 0

  constructor(settled: number) {
    this.stored = settled
    this.#reached = settled
  }

  /** Claimed, in offset order. */
  claim(offset: number): void {
    this.#open.push(offset)
  }

  settle(offset: number): void {
    this.#settled.add(offset)
    while (this.#head < this.#open.length && this.#settled.delete(this.#open[this.#head]!)) {
      this.#reached = this.#open[this.#head]!
      this.#head++
    }
    if (this.#head > 1024 && this.#head * 2 > this.#open.length) {
      this.#open.splice(0, this.#head)
      this.#head = 0
    }
  }

  /** Claimed, and behind the first one that is not settled. */
  get open(): number {
    return this.#open.length - this.#head
  }

  /** The first of the claimed ones that is not settled. */
  get head(): number | undefined {
    return this.#open[this.#head]
  }

  /** The last offset before which nothing is unsettled. */
  get reached(): number {
    return this.#reached
  }

  /** What `reached` would be, were these settled too. */
  reachedWith(offsets: ReadonlySet<number>): number {
    let reached = this.#reached
    for (let i = this.#head; i < this.#open.length; i++) {
      const offset = this.#open[i]!
      if (!this.#settled.has(offset) && !offsets.has(offset)) break
      reached = offset
    }
    return reached
  }
}
