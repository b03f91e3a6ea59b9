/** Invariants 8, 14 to 16 and 19 to 22, on histories by hand. */
import { describe, it } from "@effect/vitest"
import * as History from "@surety/testing/History"
import { allHaveFired, finds, here, type Of, publish, register } from "./support/facts.ts"

const of = (run: number, id: string): History.Run => ({
  run,
  node: "n1",
  ...here,
  id,
  key: `key of ${id}`,
  partition: 0,
  offset: Number(id.slice(2)),
  attempt: 1,
  epoch: 1
})

const start = (run: number, id: string, fields: Partial<History.Run> = {}): History.Fact => ({
  ...of(run, id),
  ...fields,
  _tag: "Start",
  content: undefined
})

const end = (run: number, id: string, fields: Of<"End"> = {}): History.Fact => ({
  ...of(run, id),
  outcome: "ok",
  ...fields,
  _tag: "End"
})

const apply = (run: number): History.Fact => ({ _tag: "Apply", run, step: 1 })
const commit = (run: number): History.Fact => ({ _tag: "Commit", run, step: 1 })

const dead = (id: string, fields: Of<"DeadLetter"> = {}): History.Fact => ({
  _tag: "DeadLetter",
  ...here,
  id,
  partition: 0,
  offset: Number(id.slice(2)),
  attempts: 1,
  content: undefined,
  cause: "Failed: because",
  ...fields
})

const redrive = (id: string): History.Fact => ({
  _tag: "Redrive",
  ...here,
  id,
  partition: 0,
  offset: Number(id.slice(2))
})

describe("outbox complete (8)", () => {
  const observer = register({ topic: "out", guarantee: "at-least-once" })
  const emitted = publish("o-1", { topic: "out", run: 1 })
  const read = (run = 2, offset = 1) => start(run, "o-1", { topic: "out", offset })
  const run = [start(1, "m-1"), apply(1), emitted]

  it("finds nothing where what was committed is read once, after its run", () => {
    finds(History.outboxComplete, [observer, ...run, end(1, "m-1"), read(), read(3), commit(1)])
    finds(History.outboxComplete, [observer, ...run, end(1, "m-1", { outcome: "fail" })])
  })

  it("finds what was committed and never published", () => {
    finds(History.outboxComplete, [observer, ...run, end(1, "m-1"), commit(1)], /never published/)
    // Of an at-most-once topic nobody can expect that.
    finds(History.outboxComplete, [
      register({ topic: "out", guarantee: "at-most-once" }),
      ...run,
      end(1, "m-1"),
      commit(1)
    ])
  })

  it("finds what was published of a run that did not commit", () => {
    finds(History.outboxComplete, [observer, ...run, end(1, "m-1", { outcome: "fail" }), read()], /did not commit/)
    // Somebody else has published it too.
    finds(History.outboxComplete, [
      observer,
      publish("o-1", { topic: "out" }),
      ...run,
      end(1, "m-1", { outcome: "fail" }),
      read()
    ])
  })

  it("finds what left before its run had ended, and what left twice", () => {
    finds(History.outboxComplete, [observer, ...run, read(), end(1, "m-1"), commit(1)], /before its run had ended/)
    finds(History.outboxComplete, [observer, ...run, end(1, "m-1"), read(), read(3, 2), commit(1)], /published 2 times/)
  })
})

describe("disposition (14)", () => {
  const failed = [start(1, "m-1"), end(1, "m-1", { outcome: "fail" })]

  it("finds dead letters without a cause, or with another number of attempts", () => {
    finds(History.disposition, [register(), ...failed, dead("m-1")])
    finds(History.disposition, [register(), ...failed, dead("m-1", { cause: "" })], /no cause/)
    finds(History.disposition, [register(), ...failed, dead("m-1", { attempts: 3 })], /counts 3 attempts, of 1/)
    finds(History.disposition, [register(), dead("m-1")], /counts 1 attempts, of 0/)
    // An attempt that ended with its process before anybody saw it.
    finds(History.disposition, [register(), ...failed, { _tag: "Crash", node: "n1" }, dead("m-1", { attempts: 2 })])
  })

  it("finds what is both handled and dead, or dead twice, where it is to be once", () => {
    const handled = [start(2, "m-1"), apply(2), end(2, "m-1"), commit(2)]
    finds(History.disposition, [register(), ...failed, dead("m-1"), ...handled], /handled, and dead/)
    finds(History.disposition, [register({ guarantee: "at-least-once" }), ...failed, dead("m-1"), ...handled])
    finds(
      History.disposition,
      [register(), ...failed, dead("m-1"), dead("m-1", { offset: 7, attempts: 0 })],
      /more than once/
    )
  })

  it("counts attempts from the last redrive on that reached the message", () => {
    const again = (attempt: number) => [start(2, "m-1", { attempt }), end(2, "m-1", { outcome: "fail" })]
    finds(History.disposition, [register(), ...failed, redrive("m-1"), ...again(1), dead("m-1")])
    finds(History.disposition, [register(), ...failed, redrive("m-1"), dead("m-1")])
    // Of two, the second one of which was interrupted.
    const twice = [...failed, start(3, "m-1", { attempt: 2 }), end(3, "m-1", { outcome: "fail" })]
    finds(History.disposition, [register(), ...twice, redrive("m-1"), ...again(1), redrive("m-1"), dead("m-1")])
    finds(
      History.disposition,
      [register(), ...failed, redrive("m-1"), ...again(2), dead("m-1", { attempts: 2 })],
      /after its redrive is called 2/
    )
    // And so does invariant 13.
    finds(History.attempts, [register(), ...failed, redrive("m-1"), ...again(1)])
    finds(History.attempts, [register(), ...failed, ...again(1)], /followed by attempt 1/)
  })

  it("finds a redrive that reaches a group which was done", () => {
    const other = (run: number) => [start(run, "m-1", { group: "h" }), end(run, "m-1", { group: "h" })]
    finds(History.disposition, [...failed, ...other(2), redrive("m-1"), ...other(3)], /reached group "h"/)
    finds(History.disposition, [...failed, redrive("m-1"), ...other(3)])
    finds(History.disposition, [...failed, ...other(2), { _tag: "Crash", node: "n2" }, redrive("m-1"), ...other(3)])
  })

  it("exempts what is redriven from order", () => {
    const key = { key: "k" }
    const facts = (...between: ReadonlyArray<History.Fact>) => [
      register(),
      publish("m-1"),
      publish("m-2", { call: 2 }),
      start(1, "m-1", key),
      end(1, "m-1", { outcome: "fail" }),
      start(2, "m-2", key),
      end(2, "m-2"),
      ...between,
      start(3, "m-1", key),
      end(3, "m-1")
    ]
    finds(History.orderWithinKey, facts(redrive("m-1")))
    finds(History.orderWithinKey, facts(), /before the earlier "m-1"/)
  })
})

describe("deduplication (15)", () => {
  const handled = [start(1, "m-1"), apply(1), end(1, "m-1")]

  it("finds a duplicate that was handled again", () => {
    const again = (fields: Partial<History.Run> = {}) => [start(2, "m-1", { offset: 9, ...fields }), commit(1)]
    finds(History.deduplication, [register(), ...handled, ...again()], /handled again/)
    finds(History.deduplication, [register({ guarantee: "at-least-once" }), ...handled, ...again()])
    finds(History.deduplication, [register(), ...handled, start(2, "m-1")])
    // A stale holder, in a transaction that has aborted.
    finds(History.deduplication, [register(), ...handled, start(3, "m-2", { epoch: 2 }), ...again()])
  })
})

describe("ack honesty (16)", () => {
  it("finds what was acknowledged and is gone, and what was refused and is there", () => {
    finds(History.ackHonesty, [register(), publish("m-1"), start(1, "m-1")])
    finds(History.ackHonesty, [register(), publish("m-1")], /acknowledged, and is gone/)
    finds(History.ackHonesty, [register(), publish("m-1", { outcome: "info" })])
    finds(History.ackHonesty, [register({ guarantee: "at-most-once" }), publish("m-1")])
    finds(History.ackHonesty, [register(), publish("m-1", { outcome: "fail" }), start(1, "m-1")], /not sent, and was/)
    finds(History.ackHonesty, [
      register(),
      publish("m-1", { outcome: "fail" }),
      publish("m-1", { outcome: "info" }),
      start(1, "m-1")
    ])
  })
})

describe("convergence (19)", () => {
  it("finds what ends after the bound", () => {
    // A millisecond an event.
    finds(History.convergence, [{ _tag: "Calm", within: 2 }, start(1, "m-1"), end(1, "m-1")])
    finds(History.convergence, [{ _tag: "Calm", within: 1 }, start(1, "m-1"), end(1, "m-1")], /2 ms after/)
    finds(History.convergence, [start(1, "m-1"), end(1, "m-1")])
  })
})

describe("no starvation of a key (20)", () => {
  const others = [start(2, "m-2"), start(3, "m-3"), start(4, "m-4")]

  it("finds a message that too many of other keys have overtaken", () => {
    finds(History.noStarvation, [register({ prefetch: 3 }), ...others, start(1, "m-1")])
    finds(History.noStarvation, [register({ prefetch: 2 }), ...others, start(1, "m-1")], /overtaken by 3 messages/)
    finds(History.noStarvation, [register(), ...others, start(1, "m-1")])
  })

  it("does not count what passes while an earlier message of the key is handled", () => {
    const key = { key: "k" }
    const first = [start(9, "m-0", key), ...others, end(9, "m-0")]
    finds(History.noStarvation, [register({ prefetch: 2 }), ...first, start(1, "m-1", key)])
  })
})

describe("drain (21)", () => {
  const join: History.Fact = { _tag: "Join", node: "n1", ...here }
  const leave: History.Fact = { _tag: "Leave", node: "n1", ...here }

  it("finds what starts after the consumer has stopped, and what it left running", () => {
    finds(History.drained, [join, start(1, "m-1"), end(1, "m-1"), leave, join, start(2, "m-2")])
    finds(History.drained, [join, leave, start(1, "m-1")], /had stopped/)
    finds(History.drained, [join, start(1, "m-1"), leave, end(1, "m-1")], /left it running/)
    // Another consumer of the group is still there.
    finds(History.drained, [join, join, leave, start(1, "m-1")])
  })
})

describe("bounded tables (22)", () => {
  it("finds what is left when everything is settled", () => {
    finds(History.bounded, [{ _tag: "Residue", ...here, what: "attempts", count: 0 }])
    finds(
      History.bounded,
      [{ _tag: "Residue", ...here, what: "attempts", count: 2 }],
      /2 attempts of group "g" are left/
    )
  })
})

describe("each invariant", () => {
  it("has found something in a history above", (context) => allHaveFired(context, "endings"))
})
