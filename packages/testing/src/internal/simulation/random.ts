/** Numbers that a seed determines: sfc32, which is small, fast, and passes the usual tests. */
export class Rng {
  #a: number
  #b: number
  #c: number
  #d = 1

  /** Streams of one seed do not depend on each other: what one draws moves no other. */
  constructor(seed: number, stream: number) {
    this.#a = seed | 0
    this.#b = (seed / 0x100000000) | 0
    this.#c = stream | 0
    for (let i = 0; i < 12; i++) this.next()
  }

  /** From 0 up to, and without, 1. */
  next(): number {
    const t = (((this.#a + this.#b) | 0) + this.#d) | 0
    this.#d = (this.#d + 1) | 0
    this.#a = this.#b ^ (this.#b >>> 9)
    this.#b = (this.#c + (this.#c << 3)) | 0
    this.#c = (this.#c << 21) | (this.#c >>> 11)
    this.#c = (this.#c + t) | 0
    return (t >>> 0) / 0x100000000
  }

  /** A whole number from 0 up to, and without, `below`. */
  int(below: number): number {
    return Math.floor(this.next() * below)
  }

  /** A whole number from `min` to `max`. */
  between(min: number, max: number): number {
    return min + this.int(max - min + 1)
  }

  chance(probability: number): boolean {
    return probability > 0 && this.next() < probability
  }

  pick<A>(items: ReadonlyArray<A>): A {
    return items[this.int(items.length)]!
  }
}
