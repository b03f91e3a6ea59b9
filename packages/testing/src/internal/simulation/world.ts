/**
 * Virtual time and the order of everything that runs: one task after the other, the next one drawn among all that are
 * ready. Time moves on, to the next timer, only once nothing is.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scheduler from "effect/Scheduler"
import type { Rng } from "./random.ts"

type Task = () => void

interface Timer {
  readonly at: number
  readonly seq: number
  fire: Task | undefined
}

/** 2030-01-01: when every simulation begins. */
const epoch = Date.UTC(2030, 0, 1)

export class World {
  /** Milliseconds since the beginning. */
  now = 0
  readonly #rng: Rng
  /** How many operations a fiber makes, on average, before another one may have its turn. */
  readonly #stride: number
  #budget = 0
  readonly #tasks: Array<Task> = []
  readonly #owners: Array<Process> = []
  readonly #next: Array<Task> = []
  /** A binary heap. */
  readonly #timers: Array<Timer> = []
  #timerCount = 0

  constructor(rng: Rng, stride: number) {
    this.#rng = rng
    this.#stride = stride
    this.#budget = this.#draw()
  }

  #draw(): number {
    return 1 + Math.floor(-Math.log(1 - this.#rng.next()) * this.#stride)
  }

  /** Whether a fiber is to pause here. */
  pauses(): boolean {
    if (--this.#budget > 0) return false
    this.#budget = this.#draw()
    return true
  }

  add(owner: Process, task: Task): void {
    this.#tasks.push(task)
    this.#owners.push(owner)
  }

  /** What is returned calls it off. */
  after(millis: number, fire: Task): Task {
    const timer: Timer = { at: this.now + millis, seq: this.#timerCount++, fire }
    const heap = this.#timers
    let index = heap.push(timer) - 1
    while (index > 0) {
      const parent = (index - 1) >> 1
      if (!isBefore(timer, heap[parent]!)) break
      heap[index] = heap[parent]!
      index = parent
    }
    heap[index] = timer
    return () => {
      timer.fire = undefined
    }
  }

  /** Runs until nothing is ready and `done` holds: then true. False when time would pass the deadline, or nothing is left to wait for. */
  async run(done: () => boolean, deadline: number): Promise<boolean> {
    while (true) {
      while (this.#tasks.length > 0) this.#step()
      // Promises of the program's own: all that follow from each other.
      await new Promise<void>(process.nextTick)
      if (this.#tasks.length > 0) continue
      if (done()) return true
      const next = this.#nextTimer()
      if (next === undefined || next.at > deadline) return false
      this.now = Math.max(this.now, next.at)
      // All that are due at that time, in an order that is drawn as well.
      for (let timer = this.#nextTimer(); timer !== undefined && timer.at <= this.now; timer = this.#nextTimer()) {
        this.#dropFirst()
        timer.fire!()
      }
    }
  }

  #step(): void {
    const tasks = this.#tasks
    const owners = this.#owners
    const index = tasks.length === 1 ? 0 : this.#rng.int(tasks.length)
    const task = tasks[index]!
    const owner = owners[index]!
    const lastTask = tasks.pop()!
    const lastOwner = owners.pop()!
    if (index < tasks.length) {
      tasks[index] = lastTask
      owners[index] = lastOwner
    }
    owner.enter(task)
    if (this.#next.length > 0) for (const task of this.#next.splice(0)) task()
  }

  /** Runs it as soon as what runs now has paused. */
  next(task: Task): void {
    this.#next.push(task)
  }

  #nextTimer(): Timer | undefined {
    while (this.#timers.length > 0) {
      const first = this.#timers[0]!
      if (first.fire !== undefined) return first
      this.#dropFirst()
    }
    return undefined
  }

  #dropFirst(): void {
    const heap = this.#timers
    const last = heap.pop()!
    if (heap.length === 0) return
    let index = 0
    while (true) {
      let child = 2 * index + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++
      if (!isBefore(heap[child]!, last)) break
      heap[index] = heap[child]!
      index = child
    }
    heap[index] = last
  }
}

const isBefore = (a: Timer, b: Timer): boolean => a.at < b.at || (a.at === b.at && a.seq < b.seq)

/**
 * A process: what its fibers do is nothing while it is frozen, and nothing more once it has ended. No finalizer runs then:
 * a fiber that is resumed has to pause before it does anything, and its turn does not come.
 */
export class Process {
  readonly world: World
  /** How far its clock is ahead, in milliseconds. */
  skew = 0
  #state: "running" | "frozen" | "ended" = "running"
  readonly #held: Array<Task> = []

  constructor(world: World) {
    this.world = world
  }

  get state(): "running" | "frozen" | "ended" {
    return this.#state
  }

  /** To be run when its turn comes. */
  schedule(task: Task): void {
    if (this.#state === "running") this.world.add(this, task)
    else if (this.#state === "frozen") this.#held.push(task)
  }

  /** Its turn has come. */
  enter(task: Task): void {
    if (this.#state === "running") task()
    else this.schedule(task)
  }

  /** Once what runs now has paused. */
  freeze(): void {
    this.world.next(() => {
      if (this.#state === "running") this.#state = "frozen"
    })
  }

  thaw(): void {
    if (this.#state !== "frozen") return
    this.#state = "running"
    for (const task of this.#held.splice(0)) this.schedule(task)
  }

  end(): void {
    this.#state = "ended"
    this.#held.length = 0
  }

  readonly scheduler: Scheduler.Scheduler = {
    executionMode: "async",
    // Not at its first operation: a fiber that is interrupted before it has begun would forget it, and begin.
    shouldYield: (fiber) => this.#state !== "running" || (fiber.currentOpCount > 1 && this.world.pauses()),
    makeDispatcher: () => this.#dispatcher
  }

  readonly #dispatcher: Scheduler.SchedulerDispatcher = {
    scheduleTask: (task) => this.schedule(task),
    flush: () => {}
  }

  readonly clock: Clock.Clock = {
    currentTimeMillisUnsafe: () => epoch + this.world.now + this.skew,
    currentTimeMillis: Effect.sync(() => epoch + this.world.now + this.skew),
    currentTimeNanosUnsafe: () => BigInt(Math.floor(epoch + this.world.now + this.skew)) * 1_000_000n,
    currentTimeNanos: Effect.sync(() => this.clock.currentTimeNanosUnsafe()),
    monotonicTimeNanosUnsafe: () => BigInt(Math.floor(this.world.now * 1_000_000)),
    monotonicTimeNanos: Effect.sync(() => this.clock.monotonicTimeNanosUnsafe()),
    sleep: (duration) => {
      const millis = Duration.toMillis(duration)
      if (millis <= 0) return Effect.yieldNow
      if (!Number.isFinite(millis)) return Effect.never
      return Effect.callback<void>((resume) => {
        const cancel = this.world.after(millis, () => this.schedule(() => resume(Effect.void)))
        return Effect.sync(cancel)
      })
    }
  }
}
