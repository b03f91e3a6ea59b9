import * as Effect from "effect/Effect"

/**
 * Something changed: a version that waiters compare, so that no change between
 * looking and waiting is missed.
 */
export class Signal {
  #version = 0
  readonly #waiters = new Set<() => void>()

  get version(): number {
    return this.#version
  }

  notify(): void {
    this.#version++
    const waiters = Array.from(this.#waiters)
    this.#waiters.clear()
    for (const resume of waiters) resume()
  }

  /** Completes once the version is no longer the one that was seen. */
  changed(seen: number): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      const wake = () => resume(Effect.void)
      if (this.#version !== seen) return wake()
      this.#waiters.add(wake)
      return Effect.sync(() => this.#waiters.delete(wake))
    })
  }
}
